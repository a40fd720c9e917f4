// Signal to noise of a point source at every pixel, and a list of the pixels where it reaches a threshold.
//
// NumPy twin: gpudiff/arrays/matched_filter.py, matched_filter(). Contract: float32 sums; a pixel has a value where the
// difference is finite and 1 / variance is finite and positive; any image size, any odd P <= 63.
// Layout: grid (tiles in x, tiles in y, image). A block is WARPS warps one above the other; a lane computes 8 rows of one
// column. d / v and 1 / v of the tile with its halo lie in shared memory, and a window of both in registers.
// The list is in the order in which warps arrive, one atomic a warp and row; the host sorts it.
// Specialised by -DP=<side of the PSF> -DWARPS=<2, 4 or 8, what fits into shared memory>.
#ifndef P
#define P 21
#endif
#ifndef WARPS
#define WARPS 8
#endif

constexpr int ROWS = 8, COLUMNS = 32, HALF = P / 2;
constexpr int PADDED = (P + 3) / 4 * 4;                  // weights of one PSF column, for 16-byte loads
constexpr int TILE_WIDTH = COLUMNS + P - 1, TILE_HEIGHT = ROWS * WARPS + P - 1;
constexpr int THREADS = 32 * WARPS;

// Every lane of the warp calls this; those whose pixel reaches the threshold get a place each.
__device__ void list(bool reaches, int pixel, float score, int* count, int* places, float* values, int capacity) {
    const unsigned those = __ballot_sync(0xffffffffu, reaches);
    if (those == 0) return;
    const int lane = threadIdx.x % 32, leader = __ffs(those) - 1;
    int first = 0;
    if (lane == leader) first = atomicAdd(count, __popc(those));
    first = __shfl_sync(0xffffffffu, first, leader);
    const int place = first + __popc(those & ((1u << lane) - 1));
    if (reaches && place < capacity) {
        places[place] = pixel;
        values[place] = score;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
matched_filter(const float* __restrict__ differences,    // (B, height, width)
               const float* __restrict__ variances,      // (B, height, width)
               const float* __restrict__ psfs,           // (B, P, P)
               float* __restrict__ scores,               // (B, height, width)
               int* __restrict__ counts,                 // (B,) zero before; all that reach it, listed or not
               int* __restrict__ places,                 // (B, capacity) y * width + x
               float* __restrict__ values,               // (B, capacity)
               int width, int height, float threshold, int capacity) {
    extern __shared__ float4 shared[];
    float* psf = (float*)shared;                         // [P columns][PADDED rows]
    float* signal = psf + P * PADDED;                    // [TILE_HEIGHT][TILE_WIDTH], d / v
    float* weight = signal + TILE_HEIGHT * TILE_WIDTH;   // the same, 1 / v
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int x0 = blockIdx.x * COLUMNS, y0 = blockIdx.y * ROWS * WARPS;
    const size_t plane = (size_t)blockIdx.z * width * height;

    for (int i = threadIdx.x; i < P * PADDED; i += THREADS) {
        const int column = i / PADDED, row = i % PADDED;
        psf[i] = row < P ? psfs[((size_t)blockIdx.z * P + row) * P + column] : 0.f;
    }
    for (int row = warp; row < TILE_HEIGHT; row += WARPS)
        for (int column = lane; column < TILE_WIDTH; column += 32) {
            const int x = x0 + column - HALF, y = y0 + row - HALF;
            float d = 0.f, w = 0.f;
            if (x >= 0 && x < width && y >= 0 && y < height) {
                const size_t pixel = plane + (size_t)y * width + x;
                d = differences[pixel];
                w = 1.f / variances[pixel];
            }
            const bool known = isfinite(d) && isfinite(w) && w > 0.f;
            signal[row * TILE_WIDTH + column] = known ? d * w : 0.f;
            weight[row * TILE_WIDTH + column] = known ? w : 0.f;
        }
    __syncthreads();

    float flux[ROWS] = {}, norm[ROWS] = {};
#pragma unroll 1
    for (int column = 0; column < P; column++) {
        const int corner = warp * ROWS * TILE_WIDTH + lane + column;
        float d[ROWS + PADDED - 1], w[ROWS + PADDED - 1];
#pragma unroll
        for (int row = 0; row < ROWS + PADDED - 1; row++) {
            const bool used = row < ROWS + P - 1;        // known when compiling
            d[row] = used ? signal[corner + row * TILE_WIDTH] : 0.f;
            w[row] = used ? weight[corner + row * TILE_WIDTH] : 0.f;
        }
        const float4* four = (const float4*)(psf + column * PADDED);
#pragma unroll
        for (int quad = 0; quad < PADDED / 4; quad++) {  // the padding weighs 0, and no value here is NaN
            const float4 p = four[quad];
            const float each[4] = {p.x, p.y, p.z, p.w};
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const float square = each[k] * each[k];
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    flux[row] = fmaf(d[row + 4 * quad + k], each[k], flux[row]);
                    norm[row] = fmaf(w[row + 4 * quad + k], square, norm[row]);
                }
            }
        }
    }
    const int x = x0 + lane;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const int y = y0 + warp * ROWS + row, pixel = y * width + x;
        const bool inside = x < width && y < height;
        const bool known = weight[(warp * ROWS + row + HALF) * TILE_WIDTH + lane + HALF] > 0.f && norm[row] > 0.f;
        const float score = known ? flux[row] / sqrtf(norm[row]) : 0.f;
        if (inside) scores[plane + pixel] = score;
        const size_t own = (size_t)blockIdx.z * capacity;
        list(inside && fabsf(score) >= threshold, pixel, score, counts + blockIdx.z, places + own, values + own, capacity);
    }
}
