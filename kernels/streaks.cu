// The mean of a score plane in square cells, pixels and means clipped, which lines are looked for in; the sums along all
// lines, a step of the fast Radon transform; and the line that is brightest for its length.
//
// NumPy twins: gpudiff/arrays/streaks.py, cells(), radon() and steepest_lines(). Contract: `cell_means` float32 sums, row by
// row; no NaN; what fills no cell at the far edges is left out.  All others exact: a sum of two each, in the same order.
// Layout: a thread a cell, or a sum (grid x), image in z, 256 a block; `farthest` a thread many lines.
constexpr float CLIP = 2.f;

extern "C" __global__ void __launch_bounds__(256)
cell_means(const float* __restrict__ scores,             // (B, height, width)
           float* __restrict__ means,                    // (B, height / side, width / side)
           int width, int height, int side) {
    const int wide = width / side, tall = height / side, n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= wide * tall) return;
    const float* cell = scores + (size_t)blockIdx.z * width * height + (size_t)(n / wide) * side * width + n % wide * side;
    float sum = 0.f;
    for (int y = 0; y < side; y++) {
        float row = 0.f;
        for (int x = 0; x < side; x++) row += fminf(fmaxf(cell[(size_t)y * width + x], -3 * CLIP), 3 * CLIP);
        sum += row;
    }
    means[(size_t)blockIdx.z * wide * tall + n] = fminf(fmaxf(sum / (side * side), -CLIP), CLIP);
}

// The sums along lines of one column: image (B, height, width) turned, S columns of S + height rows that begin S before it.
extern "C" __global__ void __launch_bounds__(256)
columns(const float* __restrict__ images,                // (B, height, width)
        float* __restrict__ sums,                        // (B, S, S + height)
        int width, int height, int size) {
    const int rows = size + height, n = blockIdx.x * blockDim.x + threadIdx.x, x = n / rows, y = n % rows - size;
    if (x >= size) return;
    const float* image = images + (size_t)blockIdx.z * width * height;
    sums[(size_t)blockIdx.z * size * rows + n] = x < width && y >= 0 ? image[(size_t)y * width + x] : 0.f;
}

// The sums along lines of 2 L columns, 2 L slopes of each, from those of L columns.
extern "C" __global__ void __launch_bounds__(256)
joined(const float* __restrict__ shorter,                // (B, S / L, L, rows)
       float* __restrict__ sums,                         // (B, S / 2 L, 2 L, rows)
       int size, int rows, int length) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, row = n % rows;
    const int piece = n / rows / (2 * length), slope = n / rows % (2 * length), half = slope / 2, rise = slope - half;
    if (n / rows >= size) return;
    const float* left = shorter + ((size_t)blockIdx.z * size + 2 * piece * length + half) * rows;
    const float* right = left + (size_t)length * rows;
    const float sum = left[row];
    sums[(size_t)blockIdx.z * size * rows + n] = row + rise < rows ? sum + right[row + rise] : sum;
}

// The sum along each line over the root of its known cells' number; NaN for a line of fewer than `least` of them.
extern "C" __global__ void __launch_bounds__(256)
for_length(const float* __restrict__ sums,               // (2 B, lines): of the cells and of those that are known, in turn
           float* __restrict__ values,                   // (B, lines)
           int lines, float least) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= lines) return;
    const float sum = sums[(size_t)2 * blockIdx.z * lines + n], known = sums[(size_t)(2 * blockIdx.z + 1) * lines + n];
    values[(size_t)blockIdx.z * lines + n] = known >= least ? sum / sqrtf(fmaxf(known, 1.f)) : nanf("");
}

// Of each block's lines, every 256 gridDim.x-th of an image, the value that is farthest from the middle one, and the first of
// those as far.
extern "C" __global__ void __launch_bounds__(256)
farthest(const float* __restrict__ values,               // (B, lines)
         const float* __restrict__ middles,              // (B,)
         float* __restrict__ most, int* __restrict__ where,                  // (B, gridDim.x); -1 and 0 of nothing
         int lines) {
    __shared__ float mosts[256];
    __shared__ int wheres[256];
    float best = -1.f;
    int line = 0;
    for (int n = blockIdx.x * 256 + threadIdx.x; n < lines; n += 256 * gridDim.x) {
        const float off = fabsf(values[(size_t)blockIdx.z * lines + n] - middles[blockIdx.z]);
        if (off > best) best = off, line = n;
    }
    mosts[threadIdx.x] = best;
    wheres[threadIdx.x] = line;
    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x >= half) continue;
        const float other = mosts[threadIdx.x + half];
        const int there = wheres[threadIdx.x + half];
        if (other < mosts[threadIdx.x] || (other == mosts[threadIdx.x] && there > wheres[threadIdx.x])) continue;
        mosts[threadIdx.x] = other;
        wheres[threadIdx.x] = there;
    }
    if (threadIdx.x) return;
    most[blockIdx.z * gridDim.x + blockIdx.x] = mosts[0];
    where[blockIdx.z * gridDim.x + blockIdx.x] = wheres[0];
}
