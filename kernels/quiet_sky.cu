// Where a difference shows sky alone, and the sums of what is left there, in cells of its tiles.
//
// NumPy twin: gpudiff/arrays/quiet_sky.py, quiet_sky(), launched one after the other: `blank` (sky alone, and the difference in
// sigmas there), `bright` (what changed), `spread` (its rows widened), `cell_sums` (its columns widened; what is left, summed).
// Of quiet_sky_again() `blank` and `cell_sums`; `changed` and `sigmas` have twins of their own, the whole image one tile.
// Contract: exact, sums of squares added in the twin's order, but for the cells' sums, float32; beyond a tile its edge pixels.
// Layout: grid (tile columns x patches, tile rows x patches, image), a block of 256 threads a patch of 32 x 32 pixels, with its
// rim in shared memory; of `cell_sums` a block a cell. Blocks beyond their tile end at once.
constexpr int PATCH = 32, THREADS = 256, MEAN = 7, RIM = MEAN / 2, WIDE = 10, CELLS = 16;
constexpr int NEAR = PATCH + 2 * RIM, FAR = PATCH + 2 * WIDE, SMALL = FAR - 2 * RIM;
constexpr float BRIGHT = 6.f, OUTLIER = 3.f, SEEN = 4.f;

// The tile and the place in it that a block works on.
struct Place {
    int x0, x1, y0, y1, x, y;                            // tile [y0, y1) x [x0, x1); first pixel of the patch
    size_t plane;
};

__device__ Place placed(const int* rows, const int* columns, int width, int height, int layers, int strips) {
    const int i = blockIdx.x / strips, j = blockIdx.y / layers;
    const int x0 = columns[i], y0 = rows[j];
    const int x = x0 + blockIdx.x % strips * PATCH, y = y0 + blockIdx.y % layers * PATCH;
    return {x0, columns[i + 1], y0, rows[j + 1], x, y, (size_t)blockIdx.z * width * height};
}

__device__ int within(int at, int first, int end) { return at < first ? first : at >= end ? end - 1 : at; }

// Of a 7-pixel window the sum, added as the twin adds it; `step` from one value to the next.
__device__ float seven(const float* v, int step) {
    return (v[0] + (v[step] + v[2 * step])) + ((v[3 * step] + v[4 * step]) + (v[5 * step] + v[6 * step]));
}

extern "C" __global__ void __launch_bounds__(256)
blank(const float* __restrict__ images, const float* __restrict__ variances, const float* __restrict__ models,
      const unsigned char* __restrict__ lost,            // all (B, height, width)
      const float* __restrict__ limits,                  // (B,) squared
      unsigned char* __restrict__ found, float* __restrict__ ratios,        // (B, height, width)
      const int* __restrict__ rows, const int* __restrict__ columns,        // borders of the tiles
      int width, int height, int layers, int strips) {
    __shared__ float values[NEAR * NEAR], sums[PATCH * NEAR];
    const Place p = placed(rows, columns, width, height, layers, strips);
    if (p.x >= p.x1 || p.y >= p.y1) return;              // the whole block
    for (int n = threadIdx.x; n < NEAR * NEAR; n += THREADS) {
        const int y = within(p.y + n / NEAR - RIM, p.y0, p.y1), x = within(p.x + n % NEAR - RIM, p.x0, p.x1);
        values[n] = models[p.plane + (size_t)y * width + x];
    }
    __syncthreads();
    for (int n = threadIdx.x; n < PATCH * NEAR; n += THREADS) sums[n] = seven(values + n, NEAR);
    __syncthreads();
    for (int n = threadIdx.x; n < PATCH * PATCH; n += THREADS) {
        const int row = n / PATCH, column = n % PATCH, y = p.y + row, x = p.x + column;
        if (y >= p.y1 || x >= p.x1) continue;
        const size_t at = p.plane + (size_t)y * width + x;
        const float mean = seven(sums + row * NEAR + column, 1) / (MEAN * MEAN), variance = variances[at];
        const bool sky = !lost[at] && mean * mean < limits[blockIdx.z] * variance;
        found[at] = sky;
        ratios[at] = sky ? images[at] / sqrtf(variance) : 0.f;
    }
}

extern "C" __global__ void __launch_bounds__(256)
bright(const float* __restrict__ ratios, unsigned char* __restrict__ found,               // (B, height, width)
       const int* __restrict__ rows, const int* __restrict__ columns,
       int width, int height, int layers, int strips) {
    __shared__ float values[FAR * FAR], sums[SMALL * FAR], small[SMALL * SMALL];
    const Place p = placed(rows, columns, width, height, layers, strips);
    if (p.x >= p.x1 || p.y >= p.y1) return;              // the whole block
    for (int n = threadIdx.x; n < FAR * FAR; n += THREADS) {
        const int y = within(p.y + n / FAR - WIDE, p.y0, p.y1), x = within(p.x + n % FAR - WIDE, p.x0, p.x1);
        values[n] = ratios[p.plane + (size_t)y * width + x];
    }
    __syncthreads();
    for (int n = threadIdx.x; n < SMALL * FAR; n += THREADS) sums[n] = seven(values + n, FAR);
    __syncthreads();
    for (int n = threadIdx.x; n < SMALL * SMALL; n += THREADS) small[n] = seven(sums + n / SMALL * FAR + n % SMALL, 1);
    __syncthreads();
    for (int n = threadIdx.x; n < PATCH * PATCH; n += THREADS) {
        const int row = n / PATCH, column = n % PATCH, y = p.y + row, x = p.x + column;
        if (y >= p.y1 || x >= p.x1) continue;
        const float* first = small + row * SMALL + column;
        float three[3];
#pragma unroll
        for (int i = 0; i < 3; i++) {
            const float* top = first + MEAN * i;
            three[i] = (top[0] + top[MEAN * SMALL]) + top[2 * MEAN * SMALL];
        }
        const float near = first[MEAN * SMALL + MEAN] / (MEAN * MEAN);
        const float around = ((three[0] + three[1]) + three[2]) / (9 * MEAN * MEAN);
        found[p.plane + (size_t)y * width + x] = fabsf(near - around) * MEAN > BRIGHT;
    }
}

extern "C" __global__ void __launch_bounds__(256)
spread(const unsigned char* __restrict__ marks,          // (B, height, width)
       const int* __restrict__ reaches,                  // (B,)
       unsigned char* __restrict__ found,                // (B, height, width) a mark within reach in the row
       const int* __restrict__ rows, const int* __restrict__ columns,
       int width, int height, int layers, int strips) {
    const Place p = placed(rows, columns, width, height, layers, strips);
    if (p.x >= p.x1 || p.y >= p.y1) return;
    const int reach = reaches[blockIdx.z];
    for (int n = threadIdx.x; n < PATCH * PATCH; n += THREADS) {
        const int y = p.y + n / PATCH, x = p.x + n % PATCH;
        if (y >= p.y1 || x >= p.x1) continue;
        const unsigned char* row = marks + p.plane + (size_t)y * width;
        const int end = within(x + reach, p.x0, p.x1);
        bool any = false;
        for (int at = within(x - reach, p.x0, p.x1); at <= end && !any; at++) any = row[at];
        found[p.plane + (size_t)y * width + x] = any;
    }
}

extern "C" __global__ void __launch_bounds__(256)
changed(const float* __restrict__ images, const float* __restrict__ variances,
        const unsigned char* __restrict__ lost, unsigned char* __restrict__ found,        // all (B, height, width)
        const int* __restrict__ rows, const int* __restrict__ columns,
        int width, int height, int layers, int strips) {
    __shared__ float values[FAR * FAR], sums[SMALL * FAR];
    __shared__ unsigned char marks[SMALL * SMALL], wide[SMALL * PATCH];
    const Place p = placed(rows, columns, width, height, layers, strips);
    if (p.x >= p.x1 || p.y >= p.y1) return;              // the whole block
    for (int n = threadIdx.x; n < FAR * FAR; n += THREADS) {
        const int y = within(p.y + n / FAR - WIDE, p.y0, p.y1), x = within(p.x + n % FAR - WIDE, p.x0, p.x1);
        const size_t at = p.plane + (size_t)y * width + x;
        values[n] = lost[at] ? 0.f : images[at] / sqrtf(variances[at]);
    }
    __syncthreads();
    for (int n = threadIdx.x; n < SMALL * FAR; n += THREADS) sums[n] = seven(values + n, FAR);
    __syncthreads();
    for (int n = threadIdx.x; n < SMALL * SMALL; n += THREADS) {
        const int y = p.y + n / SMALL - MEAN, x = p.x + n % SMALL - MEAN;
        const float mean = seven(sums + n / SMALL * FAR + n % SMALL, 1) / (MEAN * MEAN);
        marks[n] = y >= p.y0 && y < p.y1 && x >= p.x0 && x < p.x1 && fabsf(mean) * MEAN > SEEN;
    }
    __syncthreads();
    for (int n = threadIdx.x; n < SMALL * PATCH; n += THREADS) {
        const unsigned char* row = marks + n / PATCH * SMALL + n % PATCH;
        bool any = false;
        for (int k = 0; k <= 2 * MEAN; k++) any |= row[k];
        wide[n] = any;
    }
    __syncthreads();
    for (int n = threadIdx.x; n < PATCH * PATCH; n += THREADS) {
        const int y = p.y + n / PATCH, x = p.x + n % PATCH;
        if (y >= p.y1 || x >= p.x1) continue;
        bool any = false;
        for (int k = 0; k <= 2 * MEAN; k++) any |= wide[n + k * PATCH];
        found[p.plane + (size_t)y * width + x] = any;
    }
}

extern "C" __global__ void __launch_bounds__(256)
sigmas(const float* __restrict__ images, const float* __restrict__ variances,
       const unsigned char* __restrict__ sky,            // all (B, height, width)
       float most,                                       // squared
       float* __restrict__ found,                        // (B, height, width)
       const int* __restrict__ rows, const int* __restrict__ columns,
       int width, int height, int layers, int strips) {
    const Place p = placed(rows, columns, width, height, layers, strips);
    for (int n = threadIdx.x; n < PATCH * PATCH; n += THREADS) {
        const int y = p.y + n / PATCH, x = p.x + n % PATCH;
        if (y >= p.y1 || x >= p.x1) continue;
        const size_t at = p.plane + (size_t)y * width + x;
        const float image = images[at], variance = variances[at];
        found[at] = sky[at] && image * image < most * variance ? image / sqrtf(variance) : nanf("");
    }
}

extern "C" __global__ void __launch_bounds__(256)
cell_sums(const float* __restrict__ images, const float* __restrict__ levelled,    // what is summed; outliers are told from 0
          const float* __restrict__ variances,
          const unsigned char* __restrict__ sky, const unsigned char* __restrict__ marks,  // all (B, height, width)
          const int* __restrict__ reaches,               // (B,)
          float* __restrict__ found,                     // (B, tiles, 2, CELLS, CELLS) sum and number
          const int* __restrict__ rows, const int* __restrict__ columns,
          int width, int height, int layers, int strips) {
    __shared__ float sums[THREADS], counts[THREADS];
    const int i = blockIdx.x / strips, j = blockIdx.y / layers, column = blockIdx.x % strips, row = blockIdx.y % layers;
    const int x0 = columns[i], y0 = rows[j], wide = columns[i + 1] - x0, tall = rows[j + 1] - y0;
    // A pixel n of `side` is of cell n * CELLS / side, rounded down.
    const int left = x0 + (column * wide + CELLS - 1) / CELLS, right = x0 + ((column + 1) * wide + CELLS - 1) / CELLS;
    const int top = y0 + (row * tall + CELLS - 1) / CELLS, bottom = y0 + ((row + 1) * tall + CELLS - 1) / CELLS;
    const int reach = reaches[blockIdx.z], area = (right - left) * (bottom - top);
    const size_t plane = (size_t)blockIdx.z * width * height;
    float sum = 0.f, count = 0.f;
    for (int n = threadIdx.x; n < area; n += THREADS) {
        const int y = top + n / (right - left), x = left + n % (right - left);
        const size_t at = plane + (size_t)y * width + x;
        const float image = images[at], value = levelled[at];
        bool quiet = sky[at] && value * value < OUTLIER * OUTLIER * variances[at];
        const int end = within(y + reach, y0, y0 + tall);
        for (int k = within(y - reach, y0, y0 + tall); k <= end && quiet; k++) quiet = !marks[plane + (size_t)k * width + x];
        if (quiet) sum += image, count += 1.f;
    }
    sums[threadIdx.x] = sum;
    counts[threadIdx.x] = count;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            sums[threadIdx.x] += sums[threadIdx.x + half];
            counts[threadIdx.x] += counts[threadIdx.x + half];
        }
    }
    if (threadIdx.x == 0) {
        const size_t tile = (size_t)blockIdx.z * (gridDim.x / strips) * (gridDim.y / layers) + (size_t)j * (gridDim.x / strips) + i;
        float* cell = found + tile * 2 * CELLS * CELLS + row * CELLS + column;
        cell[0] = sums[0];
        cell[CELLS * CELLS] = counts[0];
    }
}
