// The noise pass: the difference whitened, and the signal to noise of a point source at every pixel, tile by tile.
//
// NumPy twin: gpudiff/arrays/score_tiles.py, score_tile(). Contract: float32 sums; any image size, any tiles, odd sides of
// filter and PSF of at most 63.
// Two kernels, one after the other. `whiten` filters each tile with its halo into a square of the tile's own, because the
// halo of a tile takes that tile's filter and not its neighbour's. `score` weighs and sums under the PSF.
// Layout of both: grid (tile columns x strips of 32 pixels, tile rows x blocks of rows, image); a block beyond its tile ends at
// once. A block is WARPS warps one above the other, a lane 8 rows of one column; pixels with their halo lie in shared memory.
// Specialised by -DS=<side of the filter> -DP=<side of the PSF> -DWARPS=<8, 4 or 2, what fits into shared memory>.
#ifndef S
#define S 21
#endif
#ifndef P
#define P 31
#endif
#ifndef WARPS
#define WARPS 8
#endif

constexpr int ROWS = 8, COLUMNS = 32, THREADS = 32 * WARPS;

struct Tile {                                            // of the block: its number, borders, and where the block begins
    int number, x0, x1, y0, y1, x, y;
};

// grow : pixels round the tile that the kernel fills too
__device__ Tile own_tile(const int* rows, const int* columns, int wide, int strips, int layers, int grow) {
    const int i = blockIdx.x / strips, j = blockIdx.y / layers;
    Tile tile = {j * wide + i, columns[i] - grow, columns[i + 1] + grow, rows[j] - grow, rows[j + 1] + grow, 0, 0};
    tile.x = tile.x0 + blockIdx.x % strips * COLUMNS;
    tile.y = tile.y0 + blockIdx.y % layers * ROWS * WARPS;
    return tile;
}

// The next 4 rows under a window of ROWS + 3 that slides down a column of shared memory; beyond the last row 0.
__device__ void slide(float* window, const float* column, int quad, int last, int stride) {
#pragma unroll
    for (int row = 0; row < ROWS - 1; row++) window[row] = window[row + 4];
#pragma unroll
    for (int row = ROWS - 1; row < ROWS + 3; row++) window[row] = 4 * quad + row < last ? column[(4 * quad + row) * stride] : 0.f;
}

extern "C" __global__ void __launch_bounds__(THREADS)
whiten(const float* __restrict__ images,                 // (B, height, width)
       const unsigned char* __restrict__ lost,           // (B, height, width); there the image counts as 0
       const float* __restrict__ filters,                // (B, tiles, S columns, padded rows), flipped
       const int* __restrict__ tile_rows, const int* __restrict__ tile_columns,
       float* __restrict__ squares,                      // (B, tiles, tall, broad): tile with `half` pixels round it
       int width, int height, int wide, int tiles, int strips, int layers, int half, int tall, int broad) {
    constexpr int PADDED = (S + 3) / 4 * 4, REACH = S / 2, STRIDE = COLUMNS + S - 1, LINES = ROWS * WARPS + S - 1;
    extern __shared__ float4 shared[];
    float* weights = (float*)shared;                     // [S columns][PADDED rows]
    float* pixels = weights + S * PADDED;                // [LINES][STRIDE]
    const Tile tile = own_tile(tile_rows, tile_columns, wide, strips, layers, half);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (tile.x >= tile.x1 || tile.y >= tile.y1) return;  // the whole block
    const size_t number = (size_t)blockIdx.z * tiles + tile.number, plane = (size_t)blockIdx.z * width * height;
    for (int n = threadIdx.x; n < S * PADDED; n += THREADS) weights[n] = filters[number * S * PADDED + n];
    for (int n = threadIdx.x; n < LINES * STRIDE; n += THREADS) {
        const int x = tile.x + n % STRIDE - REACH, y = tile.y + n / STRIDE - REACH;
        const bool inside = x >= 0 && x < width && y >= 0 && y < height;
        const size_t at = plane + (size_t)y * width + x;
        pixels[n] = inside && !lost[at] ? images[at] : 0.f;
    }
    __syncthreads();
    float sum[ROWS] = {};
#pragma unroll 1
    for (int column = 0; column < S; column++) {
        const float* window = pixels + warp * ROWS * STRIDE + lane + column;
        float value[ROWS + 3];
#pragma unroll
        for (int row = 0; row < ROWS - 1; row++) value[row + 4] = window[row * STRIDE];
#pragma unroll 1
        for (int quad = 0; quad < PADDED / 4; quad++) {
            slide(value, window, quad, ROWS + S - 1, STRIDE);
            const float4 w = ((const float4*)(weights + column * PADDED))[quad];
            const float each[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int row = 0; row < ROWS; row++) sum[row] = fmaf(value[row + k], each[k], sum[row]);
        }
    }
    const int x = tile.x + lane;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const int y = tile.y + warp * ROWS + row;
        if (x < tile.x1 && y < tile.y1) squares[(number * tall + y - tile.y0) * broad + x - tile.x0] = sum[row];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
score(const float* __restrict__ squares,                 // what `whiten` made
      const float* __restrict__ variances,               // (B, height, width), before whitening
      const unsigned char* __restrict__ lost,
      const float* __restrict__ profiles,                // (B, tiles, 2, P columns, padded rows): PSF and its square
      const float* __restrict__ levels,                  // (B, tiles) variance after whitening over before
      const float* __restrict__ floors,                  // (B, tiles) information below which there is none
      const int* __restrict__ tile_rows, const int* __restrict__ tile_columns,
      float* __restrict__ white, float* __restrict__ variance, float* __restrict__ scores,
      unsigned char* __restrict__ gone,                  // all (B, height, width)
      int width, int height, int wide, int tiles, int strips, int layers, int tall, int broad) {
    constexpr int PADDED = (P + 3) / 4 * 4, HALF = P / 2, STRIDE = COLUMNS + P - 1, LINES = ROWS * WARPS + P - 1;
    extern __shared__ float4 shared[];
    float* psf = (float*)shared;                         // [2][P columns][PADDED rows]
    float* signals = psf + 2 * P * PADDED;               // [LINES][STRIDE] white / variance
    float* weights = signals + LINES * STRIDE;           // [LINES][STRIDE] 1 / variance
    const Tile tile = own_tile(tile_rows, tile_columns, wide, strips, layers, 0);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (tile.x >= tile.x1 || tile.y >= tile.y1) return;  // the whole block
    const size_t number = (size_t)blockIdx.z * tiles + tile.number, plane = (size_t)blockIdx.z * width * height;
    const float* square = squares + number * tall * broad + (HALF - tile.y0) * broad + HALF - tile.x0;
    const float level = levels[number];
    for (int n = threadIdx.x; n < 2 * P * PADDED; n += THREADS) psf[n] = profiles[number * 2 * P * PADDED + n];
    for (int n = threadIdx.x; n < LINES * STRIDE; n += THREADS) {
        const int x = tile.x + n % STRIDE - HALF, y = tile.y + n / STRIDE - HALF;
        // beyond the tile's own halo nothing is summed that counts
        const bool inside = x >= 0 && x < width && y >= 0 && y < height && x < tile.x1 + HALF && y < tile.y1 + HALF;
        const size_t at = plane + (size_t)y * width + x;
        const float weight = inside && !lost[at] ? 1.f / (variances[at] * level) : 0.f;
        weights[n] = weight;
        signals[n] = weight > 0.f ? weight * square[y * broad + x] : 0.f;
    }
    __syncthreads();
    float flux[ROWS] = {}, information[ROWS] = {};
#pragma unroll 1
    for (int column = 0; column < P; column++) {
        const int corner = warp * ROWS * STRIDE + lane + column;
        float signal[ROWS + 3], weight[ROWS + 3];
#pragma unroll
        for (int row = 0; row < ROWS - 1; row++) {
            signal[row + 4] = signals[corner + row * STRIDE];
            weight[row + 4] = weights[corner + row * STRIDE];
        }
#pragma unroll 1
        for (int quad = 0; quad < PADDED / 4; quad++) {
            slide(signal, signals + corner, quad, ROWS + P - 1, STRIDE);
            slide(weight, weights + corner, quad, ROWS + P - 1, STRIDE);
            const float4 a = ((const float4*)(psf + column * PADDED))[quad];
            const float4 b = ((const float4*)(psf + (P + column) * PADDED))[quad];
            const float once[4] = {a.x, a.y, a.z, a.w}, twice[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    flux[row] = fmaf(signal[row + k], once[k], flux[row]);
                    information[row] = fmaf(weight[row + k], twice[k], information[row]);
                }
        }
    }
    const int x = tile.x + lane;
    if (x >= tile.x1) return;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const int y = tile.y + warp * ROWS + row;
        if (y >= tile.y1) break;
        const size_t at = plane + (size_t)y * width + x;
        const bool none = lost[at] || information[row] < floors[number];
        scores[at] = none ? 0.f : flux[row] / sqrtf(information[row]);
        white[at] = none ? nanf("") : square[y * broad + x];
        variance[at] = none ? nanf("") : variances[at] * level;
        gone[at] = none;
    }
}
