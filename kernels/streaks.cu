// The mean of a score plane in square cells, pixels and means clipped, which lines are looked for in; and the sums along all
// lines: a step of the fast Radon transform.
//
// NumPy twins: gpudiff/arrays/streaks.py, cells() and radon(). Contract: `cell_means` float32 sums, row by row; no NaN; what
// fills no cell at the far edges is left out.  `columns` and `joined` exact: a sum of two each, in the same order.
// Layout: a thread a cell, or a sum (grid x), image in z, 256 a block.
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
