// A fiber: a CUDA thread with a stack of its own that runs until it waits. All fibers share one OS thread.
#pragma once
#include "cuda_cpu.h"
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace cpu {
class Fiber : public Thread {
public:
    enum State : uint8_t { Ready, AtBarrier, InWarp, Finished };
    State state = Finished;
    int line = 0;                                   // the .cu line it waits at
    unsigned mask = 0, from = 0, ballot = 0;        // its part in a warp exchange
    uint64_t value = 0, result = 0;
    unsigned barriers = 0, warp_barriers = 0;       // how many it has passed

    Fiber();
    ~Fiber();
    Fiber(const Fiber&) = delete;
    void start(void (*body)());                     // the next resume() enters body, which must end in finish()
    void resume();                                  // runs it until it waits or finishes
    void wait();                                    // called by the fiber itself
    [[noreturn]] void finish();

private:
    void leave(bool for_good);
    static void enter();
#ifdef __x86_64__
    using Context = void*;
#else
    using Context = ucontext_t;
#endif
    Context context;
    char* stack;
    void (*body)() = nullptr;
    void* sanitizer = nullptr;                      // ASan: its fake stack; TSan: its fiber
};

// ThreadSanitizer's view of memory order; nothing in other builds.
void release(char* object);
void acquire(char* object);
}  // namespace cpu
