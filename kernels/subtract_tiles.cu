// The matched difference: kernel (x) convolved image, linear in position within a tile, taken from the target, with the
// variance of that and the pixels that have no value.
//
// NumPy twin: gpudiff/arrays/subtract_tiles.py, subtracted_tile(). Contract: float32 sums, zero beyond the image; any image
// size, any tiles, any odd K <= 63. The model is summed by kernel columns, then over them: it errs by less than 4e-7 of the
// brightest pixel near, which is 1e-4 sigma of a star of 50,000 electrons; one long sum erred by twice that.
// Layout: grid (tile columns x strips of 32 pixels, tile rows x blocks of rows, image); blocks beyond their tile end at
// once. A block is WARPS warps one above the other, a lane 8 rows of one column. The four kernels of the tile (value, its
// change with x and with y, square) and the pixels with their halo lie in shared memory; a lane loads a window once for each
// kernel column and uses each value up to 32 times. Where an unusable pixel, or the outside, is near, one more pass over the
// same window sums the weight |K| / sum |K| that falls on it.
// Specialised by -DK=<side of the kernel> -DWARPS=<8, 4 or 2, what fits into shared memory>.
#ifndef K
#define K 25
#endif
#ifndef WARPS
#define WARPS 8
#endif

constexpr int ROWS = 8, COLUMNS = 32, HALF = K / 2;
constexpr int PADDED = (K + 3) / 4 * 4;                  // weights of one kernel column, for 16-byte loads
constexpr int TILE_WIDTH = COLUMNS + K - 1, TILE_HEIGHT = ROWS * WARPS + K - 1;
constexpr int THREADS = 32 * WARPS, KERNELS = 4;
constexpr float OUTSIDE = 10.f;                          // arrays/subtract_tiles.py says why

// A smooth plane, the product of (height, cells) and (cells, width); with no cells the first is the plane itself.
__device__ float smooth(const float* rows, const float* columns, int cells, int x, int y, int width) {
    if (cells == 0) return rows[(size_t)y * width + x];
    float sum = 0.f;
    for (int cell = 0; cell < cells; cell++) sum = fmaf(rows[(size_t)y * cells + cell], columns[(size_t)cell * width + x], sum);
    return sum;
}

// A polynomial over the field, terms u^i v^j with i + j <= order, j outer.
__device__ float polynomial(const float* coefficients, float u, float v, int order) {
    float sum = 0.f, vj = 1.f;
    for (int j = 0; j <= order; j++) {
        float power = vj;
        for (int i = 0; i <= order - j; i++) {
            sum = fmaf(power, *coefficients++, sum);
            power *= u;
        }
        vj *= v;
    }
    return sum;
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
subtract_tiles(const float* __restrict__ targets,        // (B, height, width)
               const float* __restrict__ convolved,      // (B, height, width)
               const unsigned char* __restrict__ target_bad,
               const unsigned char* __restrict__ convolved_bad,
               const float* __restrict__ kernels,        // (B, tiles, 4, K columns, PADDED rows), flipped
               const float* __restrict__ magnitudes,     // (B, K columns, PADDED rows), flipped
               const float* __restrict__ shares,         // (B, tiles) sum of the square
               const int* __restrict__ tile_rows,        // (tall + 1,) borders
               const int* __restrict__ tile_columns,     // (wide + 1,)
               const float* __restrict__ target_rows, const float* __restrict__ target_columns,
               const float* __restrict__ sky_rows, const float* __restrict__ sky_columns,      // of the convolved image
               const float* __restrict__ numbers,        // (B, 3) 1 / target gain, 1 / convolved gain, most
               const float* __restrict__ backgrounds,    // (B, terms)
               const float* __restrict__ sums,           // (B, terms) of the kernel's sum; unused unless reversed
               float* __restrict__ images, float* __restrict__ variances, float* __restrict__ models,
               unsigned char* __restrict__ lost,         // all (B, height, width)
               int width, int height, int wide, int tall, int strips, int layers, int target_cells, int sky_cells,
               int background_order, int order, int reversed) {
    extern __shared__ float4 shared[];
    float* weights = (float*)shared;                     // [4][K columns][PADDED rows]
    float* pixels = weights + KERNELS * K * PADDED;      // [TILE_HEIGHT][TILE_WIDTH]
    __shared__ int unclean;
    const int i = blockIdx.x / strips, j = blockIdx.y / layers, b = blockIdx.z;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int x0 = tile_columns[i] + blockIdx.x % strips * COLUMNS, x1 = tile_columns[i + 1];
    const int y0 = tile_rows[j] + blockIdx.y % layers * ROWS * WARPS, y1 = tile_rows[j + 1];
    if (x0 >= x1 || y0 >= y1) return;                    // the whole block

    const size_t plane = (size_t)b * width * height, tile = (size_t)b * wide * tall + (size_t)j * wide + i;
    if (threadIdx.x == 0) unclean = 0;
    __syncthreads();
    for (int n = threadIdx.x; n < KERNELS * K * PADDED; n += THREADS) weights[n] = kernels[tile * KERNELS * K * PADDED + n];
    for (int n = threadIdx.x; n < TILE_HEIGHT * TILE_WIDTH; n += THREADS) {
        const int x = x0 + n % TILE_WIDTH - HALF, y = y0 + n / TILE_WIDTH - HALF;
        const bool inside = x >= 0 && x < width && y >= 0 && y < height;
        const size_t at = plane + (size_t)y * width + x;
        if (!inside || convolved_bad[at]) atomicOr(&unclean, 1);
        pixels[n] = inside ? convolved[at] : 0.f;
    }
    __syncthreads();

    float sum[KERNELS][ROWS] = {}, model_sum[ROWS] = {};
#pragma unroll 1
    for (int column = 0; column < K; column++) {
        const float* window = pixels + warp * ROWS * TILE_WIDTH + lane + column;
        const float4* four = (const float4*)(weights + column * PADDED);
        float value[ROWS + 3];                           // slides down, 4 rows a step; beyond the last row nothing weighs
#pragma unroll
        for (int row = 0; row < ROWS - 1; row++) value[row + 4] = window[row * TILE_WIDTH];
#pragma unroll 1
        for (int quad = 0; quad < PADDED / 4; quad++) {
#pragma unroll
            for (int row = 0; row < ROWS - 1; row++) value[row] = value[row + 4];
#pragma unroll
            for (int row = ROWS - 1; row < ROWS + 3; row++) {
                const int at = 4 * quad + row;
                value[row] = at < ROWS + K - 1 ? window[at * TILE_WIDTH] : 0.f;
            }
#pragma unroll
            for (int kernel = 0; kernel < KERNELS; kernel++) {
                const float4 w = four[kernel * K * PADDED / 4 + quad];
                const float each[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
                for (int k = 0; k < 4; k++)
#pragma unroll
                    for (int row = 0; row < ROWS; row++)
                        sum[kernel][row] = fmaf(value[row + k], each[k], sum[kernel][row]);
            }
        }
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            model_sum[row] += sum[0][row];
            sum[0][row] = 0.f;
        }
    }

    float share[ROWS] = {};                              // of the kernel's weight that has no value
    const bool check = unclean;
    __syncthreads();
    if (check) {                                         // the same for the whole block
        for (int n = threadIdx.x; n < K * PADDED; n += THREADS) weights[n] = magnitudes[(size_t)b * K * PADDED + n];
        for (int n = threadIdx.x; n < TILE_HEIGHT * TILE_WIDTH; n += THREADS) {
            const int x = x0 + n % TILE_WIDTH - HALF, y = y0 + n / TILE_WIDTH - HALF;
            const bool inside = x >= 0 && x < width && y >= 0 && y < height;
            pixels[n] = !inside ? OUTSIDE : convolved_bad[plane + (size_t)y * width + x] ? 1.f : 0.f;
        }
        __syncthreads();
#pragma unroll 1
        for (int column = 0; column < K; column++) {
            const float* window = pixels + warp * ROWS * TILE_WIDTH + lane + column;
#pragma unroll 1
            for (int row = 0; row < K; row++) {
                const float w = weights[column * PADDED + row];
#pragma unroll
                for (int k = 0; k < ROWS; k++) share[k] = fmaf(window[(row + k) * TILE_WIDTH], w, share[k]);
            }
        }
    }
    unsigned reached = 0;                                // one bit a row: too much of the kernel has no value
#pragma unroll
    for (int row = 0; row < ROWS; row++) reached |= (share[row] > numbers[3 * b + 2]) << row;

    const int x = x0 + lane;
    if (x >= x1) return;
    const float dx = x - 0.5f * (tile_columns[i] + x1 - 1), u = 2.f * x / width - 1.f;
    const float per_target = numbers[3 * b], per_convolved = numbers[3 * b + 1];
    const int back_terms = (background_order + 1) * (background_order + 2) / 2, terms = (order + 1) * (order + 2) / 2;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const int y = y0 + warp * ROWS + row;
        if (y >= y1) break;
        const size_t at = plane + (size_t)y * width + x;
        const float dy = y - 0.5f * (tile_rows[j] + y1 - 1), v = 2.f * y / height - 1.f;
        float model = fmaf(dy, sum[2][row], fmaf(dx, sum[1][row], model_sum[row]));
        float sky = smooth(sky_rows + (size_t)b * height * (sky_cells ? sky_cells : width),
                           sky_columns + (size_t)b * sky_cells * width, sky_cells, x, y, width) * shares[tile];
        sky += smooth(target_rows + (size_t)b * height * (target_cells ? target_cells : width),
                      target_columns + (size_t)b * target_cells * width, target_cells, x, y, width);
        float variance = fmaxf(sum[3][row] * per_convolved + model * per_target + sky, 0.5f * sky);
        float image = targets[at] - model - polynomial(backgrounds + b * back_terms, u, v, background_order);
        if (reversed) {                                  // the science image was convolved: in its unit, science minus template
            const float scale = 1.f / polynomial(sums + b * terms, u, v, order);
            image *= -scale;
            model *= scale;
            variance *= scale * scale;
        }
        images[at] = image;
        variances[at] = variance;
        models[at] = model;
        lost[at] = target_bad[at] || reached >> row & 1;
    }
}
