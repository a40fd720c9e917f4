// Level and noise of the sky in the cells of a mesh: clipped mode, and the scatter below it.
//
// NumPy twin: gpudiff/arrays/mesh.py, clipped_mesh(). Contract: median, quantile and clipping exact, the mean in double, summed
// in an order of its own; the result is the same from run to run.
// Layout: grid (cells along x, along y, image), a block of 128 threads a cell. A cell's pixels are kept as keys, integers in the
// order of the values, in a table that it alone reads; an order statistic is found by counting keys below three pivots, which
// leaves a quarter of the interval, for two ranks at a time.
constexpr int THREADS = 128, RANKS = 2, PIVOTS = 3 * RANKS, ROUNDS = 5, FEWEST = 60;
constexpr unsigned NOTHING = 0xffffffffu;                // no value: behind all keys

struct Tally {
    int parts[PIVOTS][THREADS], totals[PIVOTS];
};

__device__ unsigned key_of(float value) {
    if (isnan(value)) return NOTHING;
    const int bits = __float_as_int(value == 0.f ? 0.f : value);             // one zero
    return bits < 0 ? ~(unsigned)bits : (unsigned)bits | 0x80000000u;
}

__device__ double value_of(unsigned key) {
    return __int_as_float((int)(key & 0x80000000u ? key ^ 0x80000000u : ~key));
}

// The key of the smallest float that is not below a bound.
__device__ unsigned first_from(double bound) {
    const float near = (float)bound;
    return key_of(near) + ((double)near < bound);
}

// How many keys lie below each pivot; every thread of the block calls this and gets all counts.
__device__ void count_below(const unsigned* keys, int size, const unsigned* pivots, int* counts, Tally& tally) {
    int own[PIVOTS] = {};
    for (int n = threadIdx.x; n < size; n += THREADS) {
        const unsigned key = keys[n];
#pragma unroll
        for (int p = 0; p < PIVOTS; p++) own[p] += key < pivots[p];
    }
#pragma unroll
    for (int p = 0; p < PIVOTS; p++) tally.parts[p][threadIdx.x] = own[p];
    __syncthreads();
    const int lane = threadIdx.x % 32;
    for (int p = threadIdx.x / 32; p < PIVOTS; p += THREADS / 32) {          // a warp a pivot
        int sum = 0;
        for (int n = lane; n < THREADS; n += 32) sum += tally.parts[p][n];
        for (int far = 16; far > 0; far /= 2) sum += __shfl_down_sync(0xffffffffu, sum, far);
        if (lane == 0) tally.totals[p] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int p = 0; p < PIVOTS; p++) counts[p] = tally.totals[p];
}

// The keys of two ranks among all keys, 0 the smallest; both lie in [from, to).
__device__ void select(const unsigned* keys, int size, const int* ranks, unsigned from, unsigned to, unsigned* found, Tally& tally) {
    unsigned high[RANKS] = {to, to};
    found[0] = found[1] = from;
    while (high[0] - found[0] > 1 || high[1] - found[1] > 1) {
        unsigned pivots[PIVOTS];
        int counts[PIVOTS];
#pragma unroll
        for (int p = 0; p < PIVOTS; p++) {
            const unsigned long long width = high[p / 3] - found[p / 3];
            pivots[p] = found[p / 3] + (unsigned)(width * (p % 3 + 1) / 4);
        }
        count_below(keys, size, pivots, counts, tally);
#pragma unroll
        for (int p = 0; p < PIVOTS; p++) {
            const int r = p / 3;
            if (counts[p] <= ranks[r]) found[r] = max(found[r], pivots[p]);
            else high[r] = min(high[r], pivots[p]);
        }
    }
}

// The sum of the values with keys in [from, to).
__device__ double sum_of(const unsigned* keys, int size, unsigned from, unsigned to, double* sums) {
    double own = 0.0;
    for (int n = threadIdx.x; n < size; n += THREADS)
        if (keys[n] >= from && keys[n] < to) own += value_of(keys[n]);
    sums[threadIdx.x] = own;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    __syncthreads();
    return sums[0];
}

extern "C" __global__ void __launch_bounds__(128)
clipped_mesh(const float* __restrict__ images,           // (B, height, width)
             const unsigned char* __restrict__ unusable,
             const int* __restrict__ rows,               // (cells along y + 1,) borders
             const int* __restrict__ columns,            // (cells along x + 1,)
             unsigned* __restrict__ table,               // (B, cells, capacity)
             double* __restrict__ levels,                // (B, cells); NaN for a cell with fewer than 60 values
             double* __restrict__ sigmas,
             int width, int height, int row_step, int step, int capacity) {
    __shared__ Tally tally;
    __shared__ double sums[THREADS];
    const int i = blockIdx.x, j = blockIdx.y;
    const size_t cell = ((size_t)blockIdx.z * gridDim.y + j) * gridDim.x + i, plane = (size_t)blockIdx.z * width * height;
    const int x0 = columns[i] + (i + j) % step, y0 = rows[j];
    const int across = max(0, columns[i + 1] - x0 + step - 1) / step, down = (rows[j + 1] - y0 + row_step - 1) / row_step;
    const int size = across * down;
    unsigned* keys = table + cell * capacity;
    for (int n = threadIdx.x; n < size; n += THREADS) {  // each thread reads only what it wrote
        const size_t pixel = plane + (size_t)(y0 + n / across * row_step) * width + x0 + n % across * step;
        keys[n] = unusable[pixel] ? NOTHING : key_of(images[pixel]);
    }
    unsigned bounds[PIVOTS] = {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING}, from = 0, to = NOTHING, found[RANKS];
    int counts[PIVOTS];
    count_below(keys, size, bounds, counts, tally);
    int low = 0, high = counts[0];
    double median = nan(""), sigma = nan(""), level = nan("");
    if (high >= FEWEST) {                                // the whole block
        for (int round = 0; round < ROUNDS; round++) {
            const int kept = high - low, ranks[RANKS] = {low + kept / 2, low + (int)__dmul_rn(0.1587, kept)};
            select(keys, size, ranks, from, to, found, tally);
            median = value_of(found[0]);
            sigma = median - value_of(found[1]);
            if (sigma <= 0.0) break;
            bounds[0] = from = first_from(median - __dmul_rn(3.0, sigma));
            bounds[1] = to = first_from(median + __dmul_rn(2.5, sigma));
            count_below(keys, size, bounds, counts, tally);
            low = counts[0];
            high = counts[1];
        }
        const int ranks[RANKS] = {low + (high - low) / 2, low + (high - low) / 2};
        select(keys, size, ranks, from, to, found, tally);
        median = value_of(found[0]);
        const double mean = sum_of(keys, size, from, to, sums) / (high - low);
        level = fabs(mean - median) < __dmul_rn(0.3, sigma) ? __dmul_rn(2.5, median) - __dmul_rn(1.5, mean) : median;
    }
    if (threadIdx.x == 0) {
        levels[cell] = level;
        sigmas[cell] = sigma;
    }
}
