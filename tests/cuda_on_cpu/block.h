// Launching: the blocks of a grid one after another, the threads of a block as fibers.
#pragma once
#include "cuda_cpu.h"

namespace cpu {
enum Order : unsigned { Ascending = 0, Descending = 1 };        // any other number is the seed of a shuffle
Kernel find(const char* name, size_t arguments);                // ends the program if there is no such kernel
void launch(const char* name, Kernel kernel, void** values, dim3 grid, dim3 block, size_t shared, unsigned order);
}  // namespace cpu
