// The mean of a score plane in square cells, pixels and means clipped: what lines are looked for in.
//
// NumPy twin: gpudiff/arrays/streaks.py, cells(). Contract: float32 sums, row by row; no NaN; what fills no cell at the far
// edges is left out.
// Layout: a thread a cell, row by row (grid x), image in z, 256 a block.
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
