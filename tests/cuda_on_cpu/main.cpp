// One launch as a program: reads the arguments from a file, runs the kernel, writes the arrays back to it.
//
//     PROGRAM FILE KERNEL ORDER SHARED GRID_X GRID_Y GRID_Z BLOCK_X BLOCK_Y BLOCK_Z
//
// FILE holds the arguments one after another: 8 bytes kind (0 scalar, 1 array), 8 bytes length, the bytes. Every array has
// an allocation of exactly its length, so that AddressSanitizer sees the first byte beyond it.
#include "block.h"
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {
struct Argument { uint64_t kind, length; char* bytes; };

std::vector<Argument> read(const char* path) {
    std::vector<Argument> all;
    std::FILE* file = std::fopen(path, "rb");
    uint64_t head[2];
    while (file && std::fread(head, sizeof head, 1, file) == 1) {
        char* bytes = (char*)std::malloc(head[1]);
        if (std::fread(bytes, 1, head[1], file) != head[1]) std::abort();
        all.push_back({head[0], head[1], bytes});
    }
    if (file) std::fclose(file);
    return all;
}

void write(const char* path, const std::vector<Argument>& all) {
    std::FILE* file = std::fopen(path, "wb");
    if (!file) std::abort();
    for (const Argument& a : all)
        if (a.kind == 1 && std::fwrite(a.bytes, 1, a.length, file) != a.length) std::abort();
    if (std::fclose(file)) std::abort();
}
}  // namespace

int main(int count, char** words) {
    if (count != 11) return 2;
    const auto number = [&](int i) { return (unsigned)std::strtoul(words[i], nullptr, 10); };
    std::vector<Argument> arguments = read(words[1]);
    std::vector<void*> values;                      // as for cuLaunchKernel: a scalar's address, or a pointer's
    for (Argument& a : arguments) values.push_back(a.kind == 1 ? (void*)&a.bytes : (void*)a.bytes);
    const cpu::Kernel kernel = cpu::find(words[2], arguments.size());
    const dim3 grid{number(5), number(6), number(7)}, block{number(8), number(9), number(10)};
    cpu::launch(words[2], kernel, values.data(), grid, block, number(4), number(3));
    write(words[1], arguments);
    for (Argument& a : arguments) std::free(a.bytes);
}
