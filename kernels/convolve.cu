// Convolution with a kernel that varies over the image, constant over cells of 16 rows by 32 columns.
//
// NumPy twin: gpudiff/arrays/convolve.py, convolve(..., cell=CELL). Contract: float32 sums, zero beyond the image, NaN
// wherever the kernel reaches a pixel that is not finite; any image size, any odd K <= 63.
// Layout: grid (tiles in x, tiles in y, image). A block is WARPS warps one above the other; a warp computes one cell, each
// lane 16 rows of one column. The tile with its halo and one kernel a warp lie in shared memory. A lane loads a window of
// 16 + K - 1 rows once for each kernel column and uses every value up to 16 times, so that the multiply-adds and not
// shared memory bound the speed (a lane with 4 rows is bound by shared memory).
// Specialised by -DK=<side of the kernel> -DWARPS=<2, 4 or 8, what fits into shared memory>.
#ifndef K
#define K 21
#endif
#ifndef WARPS
#define WARPS 8
#endif

constexpr int ROWS = 16, COLUMNS = 32, HALF = K / 2;
constexpr int PADDED = (K + 3) / 4 * 4;                  // weights of one kernel column, for 16-byte loads
constexpr int TILE_WIDTH = COLUMNS + K - 1, TILE_HEIGHT = ROWS * WARPS + K - 1;
constexpr int THREADS = 32 * WARPS;

// Weight (row, column) of the kernel at (u, v), flipped so that convolution becomes correlation.
__device__ float weight_at(const float* kernels, int row, int column, float u, float v, int order) {
    const float* term = kernels + (K - 1 - row) * K + (K - 1 - column);
    float sum = 0.f, vj = 1.f;
    for (int j = 0; j <= order; j++) {
        float power = vj;
        for (int i = 0; i <= order - j; i++) {
            sum = fmaf(power, *term, sum);
            power *= u;
            term += K * K;
        }
        vj *= v;
    }
    return sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
convolve(const float* __restrict__ images,               // (B, height, width)
         const float* __restrict__ kernels,              // (B, P, K, K)
         float* __restrict__ result,                     // (B, height, width)
         int width, int height, int order) {
    extern __shared__ float4 shared[];
    float* weights = (float*)shared;                     // [WARPS][K columns][PADDED rows]
    float* tile = weights + WARPS * K * PADDED;          // [TILE_HEIGHT][TILE_WIDTH]
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int x0 = blockIdx.x * COLUMNS, y0 = blockIdx.y * ROWS * WARPS;
    const size_t plane = (size_t)blockIdx.z * width * height;
    const int terms = (order + 1) * (order + 2) / 2;

    const float u = 2.f * (x0 + 0.5f * (COLUMNS - 1)) / width - 1.f;
    const float v = 2.f * (y0 + warp * ROWS + 0.5f * (ROWS - 1)) / height - 1.f;
    for (int i = lane; i < K * PADDED; i += 32) {
        const int column = i / PADDED, row = i % PADDED;
        const float* own = kernels + (size_t)blockIdx.z * terms * K * K;
        weights[warp * K * PADDED + i] = row < K ? weight_at(own, row, column, u, v, order) : 0.f;
    }
    for (int row = warp; row < TILE_HEIGHT; row += WARPS)
        for (int column = lane; column < TILE_WIDTH; column += 32) {
            const int x = x0 + column - HALF, y = y0 + row - HALF;
            const bool inside = x >= 0 && x < width && y >= 0 && y < height;
            const float pixel = inside ? images[plane + (size_t)y * width + x] : 0.f;
            tile[row * TILE_WIDTH + column] = isfinite(pixel) ? pixel : nanf("");
        }
    __syncthreads();

    float sum[ROWS] = {};
#pragma unroll 1
    for (int column = 0; column < K; column++) {
        const float* pixels = tile + warp * ROWS * TILE_WIDTH + lane + column;
        const float4* four = (const float4*)(weights + (warp * K + column) * PADDED);
        float window[ROWS + K - 1];
#pragma unroll
        for (int row = 0; row < ROWS + K - 1; row++) window[row] = pixels[row * TILE_WIDTH];
#pragma unroll
        for (int quad = 0; quad < PADDED / 4; quad++) {
            const float4 w = four[quad];
#pragma unroll
            for (int row = 0; row < ROWS; row++) {       // the tests are known when compiling
                const int at = row + 4 * quad;
                sum[row] = fmaf(window[at], w.x, sum[row]);
                if (4 * quad + 1 < K) sum[row] = fmaf(window[at + 1], w.y, sum[row]);
                if (4 * quad + 2 < K) sum[row] = fmaf(window[at + 2], w.z, sum[row]);
                if (4 * quad + 3 < K) sum[row] = fmaf(window[at + 3], w.w, sum[row]);
            }
        }
    }
    const int x = x0 + lane;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const int y = y0 + warp * ROWS + row;
        if (x < width && y < height) result[plane + (size_t)y * width + x] = sum[row];
    }
}
