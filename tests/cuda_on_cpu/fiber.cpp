// Switching between fibers, and telling the sanitizers about it.
#include "fiber.h"
#include <sys/mman.h>
#ifdef CPU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CPU_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#ifdef __x86_64__
// Saves the callee-saved registers and the stack pointer in *save, and goes on where `to` was saved. ucontext would
// do, but AddressSanitizer's swapcontext forgets the red zones of the stack it enters.
extern "C" void cpu_switch(void** save, void* to);
asm(R"(
.text
.globl cpu_switch
.hidden cpu_switch
.type cpu_switch,@function
cpu_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
.size cpu_switch,.-cpu_switch
)");
#endif

namespace cpu {
Thread* thread;

namespace {
constexpr size_t STACK = 256 << 10;                 // virtual; only what a kernel touches becomes real
#ifdef __x86_64__
void* scheduler;
#else
ucontext_t scheduler;
#endif
#ifdef CPU_ASAN
void* scheduler_fake_stack;
const void* scheduler_stack;
size_t scheduler_stack_size;
#endif
#ifdef CPU_TSAN
void* scheduler_fiber;
#endif
Fiber* running() { return static_cast<Fiber*>(thread); }
}  // namespace

Fiber::Fiber() {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
#ifdef CPU_TSAN
    sanitizer = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#ifdef CPU_TSAN
    __tsan_destroy_fiber(sanitizer);
#endif
    munmap(stack, STACK);
}

void Fiber::start(void (*entry)()) {
    body = entry;
    state = Ready;
    barriers = warp_barriers = 0;
#ifdef CPU_ASAN
    __asan_unpoison_memory_region(stack, STACK);    // red zones that an earlier block's frames left behind
#endif
#ifdef __x86_64__
    void** top = (void**)(stack + STACK) - 2;       // so that the stack is aligned as after a call
    *top = (void*)&Fiber::enter;
    top -= 6;                                       // the six registers that cpu_switch pops
    std::memset(top, 0, 6 * sizeof(void*));
    context = top;
#else
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, &Fiber::enter, 0);
#endif
}

void Fiber::resume() {
    thread = this;
#ifdef CPU_ASAN
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, stack, STACK);
#endif
#ifdef CPU_TSAN
    // Without synchronization: only the kernel's own barriers may order its memory.
    scheduler_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef __x86_64__
    cpu_switch(&scheduler, context);
#else
    swapcontext(&scheduler, &context);
#endif
#ifdef CPU_ASAN
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
    thread = nullptr;
}

void Fiber::enter() {
#ifdef CPU_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    running()->body();
    __builtin_unreachable();
}

void Fiber::leave(bool for_good) {
#ifdef CPU_ASAN
    __sanitizer_start_switch_fiber(for_good ? nullptr : &sanitizer, scheduler_stack, scheduler_stack_size);
#endif
#ifdef CPU_TSAN
    __tsan_switch_to_fiber(scheduler_fiber, __tsan_switch_to_fiber_no_sync);
#endif
    (void)for_good;
#ifdef __x86_64__
    cpu_switch(&context, scheduler);
#else
    swapcontext(&context, &scheduler);
#endif
#ifdef CPU_ASAN
    __sanitizer_finish_switch_fiber(sanitizer, &scheduler_stack, &scheduler_stack_size);
#endif
}

void Fiber::wait() { leave(false); }

void Fiber::finish() {
    state = Finished;
    leave(true);
    __builtin_unreachable();
}

#ifdef CPU_TSAN
void release(char* object) { __tsan_release(object); }
void acquire(char* object) { __tsan_acquire(object); }
#else
void release(char*) {}
void acquire(char*) {}
#endif
}  // namespace cpu
