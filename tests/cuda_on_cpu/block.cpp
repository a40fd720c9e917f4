// Running a block: its threads in a chosen order, barriers and warp exchanges as scheduling points.
#include "block.h"
#include "fiber.h"
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

// The section of all __shared__ arrays; the linker makes the two names. Weak: a kernel may have none.
extern "C" {
extern char __start_gpu_shared[] __attribute__((weak));
extern char __stop_gpu_shared[] __attribute__((weak));
}

namespace cpu {
Grid grid;

namespace {
constexpr unsigned LARGEST_BLOCK = 1024;

// TSan objects come in pairs, used in turn: with one, a thread that wakes late would inherit the order of the next
// barrier, and a write after a read would go unseen.
struct Warp { unsigned waiting = 0; char order[2]; };

struct Block {
    const char* name;
    Kernel kernel;
    void** values;
    std::vector<std::unique_ptr<Fiber>> threads;
    std::vector<Warp> warps;
    unsigned at_barrier = 0, unfinished = 0;
    char* dynamic = nullptr;
    char begin, end, barrier_order[2];
} block;

std::map<std::string, std::pair<Kernel, size_t>>& entries() {
    static std::map<std::string, std::pair<Kernel, size_t>> all;
    return all;
}

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "cuda_on_cpu: kernel %s, block (%u,%u,%u): %s\n", block.name, grid.block.x, grid.block.y,
                 grid.block.z, what.c_str());
    std::fflush(stderr);
    std::_Exit(3);
}

std::string describe(const Fiber& t) {
    const char* where = t.state == Fiber::AtBarrier ? "__syncthreads" : "a warp operation";
    return "thread (" + std::to_string(t.index.x) + "," + std::to_string(t.index.y) + "," + std::to_string(t.index.z) +
           ") waits in " + where + " at line " + std::to_string(t.line);
}

Fiber& me() { return *static_cast<Fiber*>(thread); }

void run_thread() {
    acquire(&block.begin);
    block.kernel(block.values);
    release(&block.end);
    block.unfinished--;
    me().finish();
}

// Shared memory starts as NaN, so that a read before the write shows. Not a memset: ASan would see the red zones.
__attribute__((no_sanitize("address"), optimize("O2"))) void poison(char* from, char* to) {
    for (volatile char* p = from; p < (volatile char*)to; p++) *p = (char)0xff;
}

void pass_barrier() {
    const Fiber& first = *block.threads[0];
    for (auto& t : block.threads)
        if (t->line != first.line) fail("divergent __syncthreads: " + describe(first) + ", " + describe(*t));
    for (auto& t : block.threads) t->state = Fiber::Ready;
    block.at_barrier = 0;
}

[[noreturn]] void fail_stuck() {
    std::string what = "a barrier never completes: ";
    unsigned shown = 0;
    for (auto& t : block.threads)
        if (t->state != Fiber::Finished && shown++ < 2) what += describe(*t) + "; ";
    fail(what + std::to_string(block.threads.size() - block.unfinished) + " thread(s) have exited");
}

void run_block(const std::vector<unsigned>& order, size_t shared) {
    poison(__start_gpu_shared, __stop_gpu_shared);
    poison(block.dynamic, block.dynamic + shared);
    for (auto& t : block.threads) t->start(run_thread);
    for (Warp& warp : block.warps) warp.waiting = 0;
    block.at_barrier = 0;
    block.unfinished = block.threads.size();
    release(&block.begin);
    while (block.unfinished) {
        bool progress = false;
        for (unsigned i : order)
            if (block.threads[i]->state == Fiber::Ready) {
                block.threads[i]->resume();
                progress = true;
            }
        if (progress) continue;
        if (block.at_barrier != block.threads.size()) fail_stuck();
        pass_barrier();
    }
    acquire(&block.end);
}

std::vector<unsigned> permutation(size_t count, unsigned order) {
    std::vector<unsigned> indices(count);
    std::iota(indices.begin(), indices.end(), 0u);
    if (order == Descending) std::reverse(indices.begin(), indices.end());
    if (order > Descending) std::shuffle(indices.begin(), indices.end(), std::mt19937(order));
    return indices;
}

void make_threads(dim3 size) {
    const unsigned count = size.x * size.y * size.z;
    if (count == 0 || count > LARGEST_BLOCK) fail("a block of " + std::to_string(count) + " threads");
    for (unsigned i = 0; i < count; i++) {
        block.threads.push_back(std::make_unique<Fiber>());
        Thread& t = *block.threads.back();
        t.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        t.lane = i % 32;
        t.warp = i / 32;
    }
    block.warps.resize((count + 31) / 32);
}
}  // namespace

Entry::Entry(const char* name, Kernel kernel, size_t arguments) { entries()[name] = {kernel, arguments}; }

Kernel find(const char* name, size_t arguments) {
    block.name = name;
    auto entry = entries().find(name);
    if (entry == entries().end()) fail("no such kernel");
    const size_t expected = entry->second.second;
    if (arguments != expected)
        fail("expected " + std::to_string(expected) + " arguments, got " + std::to_string(arguments));
    return entry->second.first;
}

void launch(const char* name, Kernel kernel, void** values, dim3 size, dim3 block_size, size_t shared, unsigned order) {
    block.name = name;
    block.kernel = kernel;
    block.values = values;
    block.dynamic = (char*)std::malloc(shared);       // of exactly this length, for ASan
    make_threads(block_size);
    grid.block_size = block_size;
    grid.grid_size = size;
    const auto threads = permutation(block.threads.size(), order);
    for (unsigned i : permutation((size_t)size.x * size.y * size.z, order)) {
        grid.block = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        run_block(threads, shared);
    }
    block.threads.clear();
    std::free(block.dynamic);
}

void* dynamic_shared() { return block.dynamic; }

void sync_block(int line) {
    Fiber& t = me();
    char* order = &block.barrier_order[t.barriers++ % 2];
    t.state = Fiber::AtBarrier;
    t.line = line;
    block.at_barrier++;
    release(order);
    t.wait();
    acquire(order);
}

Exchange warp_exchange(unsigned mask, uint64_t value, unsigned from, int line) {
    Fiber& t = me();
    Warp& warp = block.warps[t.warp];
    auto* lanes = &block.threads[32 * t.warp];
    const size_t present = block.threads.size() - 32 * t.warp;
    if (present < 32) mask &= (1u << present) - 1;              // the last warp may be short
    t.mask = mask, t.from = from, t.value = value, t.line = line;
    warp.waiting |= 1u << t.lane;
    const auto in_mask = [&](unsigned lane) { return lane < 32 && (mask >> lane & 1); };
    bool complete = (warp.waiting & mask) == mask;
    for (unsigned i = 0; complete && i < 32; i++)
        if (in_mask(i)) complete = lanes[i]->mask == mask;
    if (!complete) {
        t.state = Fiber::InWarp;
        t.wait();
        return {t.result, t.ballot};
    }
    unsigned ballot = 0;                                        // the last lane answers for all of them
    for (unsigned i = 0; i < 32; i++)
        if (in_mask(i)) ballot |= (unsigned)(lanes[i]->value != 0) << i;
    for (unsigned i = 0; i < 32; i++)
        if (in_mask(i)) {
            const unsigned source = in_mask(lanes[i]->from) ? lanes[i]->from : i;
            lanes[i]->result = lanes[source]->value;
            lanes[i]->ballot = ballot;
            lanes[i]->state = Fiber::Ready;
        }
    warp.waiting &= ~mask;
    return {t.result, t.ballot};
}

void sync_warp(unsigned mask, int line) {
    Fiber& t = me();
    char* order = &block.warps[t.warp].order[t.warp_barriers++ % 2];
    release(order);
    warp_exchange(mask, 0, 0, line);
    acquire(order);
}
}  // namespace cpu
