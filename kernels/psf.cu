// The PSF from centred stamps of stars: each pixel a polynomial over the field, pixels and stars that disagree clipped.
//
// NumPy twin: gpudiff/arrays/psf.py, fit(). Contract: pixels in float32 as in NumPy, all sums in double, in an order of their
// own that no two runs differ in; NumPy's sums over stars are float32.
// Layout: first `light`, a block a star, and `middle`, a block a pixel; then in each round `judge`, a block a star, `keep`, one
// block, and `solve`, 32 pixels a block, a lane each, a warp every 4th star. Specialised by TERMS of the polynomial.
constexpr int THREADS = 128, WARPS = THREADS / 32, LANES = 32;
constexpr int SUMS = TERMS * (TERMS + 1) / 2 + TERMS + 1;
constexpr int CORE2 = 36;                        // px^2, squared radius of a star's core
constexpr float CLIP = 4.f;                      // psf.py says what this and the next are
constexpr double VARYING = 0.5, SPOILT = 0.1;

// What `judge` knows of a star.
enum { SCALE, RELATIVE, GOOD, WIDER, COLUMNS };

__device__ bool in_core(int pixel, int side) {
    const int y = pixel / side - side / 2, x = pixel % side - side / 2;
    return y * y + x * x <= CORE2;
}

// The PSF at a star; coefficients: of its pixel, those of one term `pixels` from those of the next.
__device__ float model_of(const float* terms, const double* coefficients, int pixels) {
    float sum = 0.f;
#pragma unroll
    for (int p = 0; p < TERMS; p++) sum = fmaf(terms[p], (float)coefficients[(size_t)p * pixels], sum);
    return sum;
}

// By how much a pixel may differ from the model.
__device__ float error_of(float light, float relative) { return 0.1f * sqrtf(light * relative) + 0.02f * light + relative; }

// The sums over all threads, in all threads. Between two calls with as many sums there must be a barrier.
template <int N> __device__ void add_up(double (&sums)[N]) {
    __shared__ double parts[WARPS][N];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int n = 0; n < N; n++) {
        for (int step = 16; step > 0; step /= 2) sums[n] += __shfl_xor_sync(0xffffffffu, sums[n], step);
        if (lane == 0) parts[warp][n] = sums[n];
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; n++) {
        sums[n] = parts[0][n];
        for (int other = 1; other < WARPS; other++) sums[n] += parts[other][n];
    }
}

// The order of np.sort: NaN comes last.
template <class T> __device__ bool before(T one, T other) { return one < other || (!isnan(one) && isnan(other)); }

// The two values in the middle, and the last one. Called by the whole block, which has a barrier before and after.
template <class T> __device__ void middles(const T* values, int count, T* found) {
    for (int n = threadIdx.x; n < count; n += THREADS) {
        const T own = values[n];
        int rank = 0;
        for (int other = 0; other < count; other++)
            rank += before(values[other], own) || (other < n && !before(own, values[other]));
        if (rank == (count - 1) / 2) found[0] = own;
        if (rank == count / 2) found[1] = own;
        if (rank == count - 1) found[2] = own;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
light(const float* __restrict__ stars,           // (N, side, side)
      float* __restrict__ flux,                  // (N,) in the core
      int side) {
    const float* star = stars + (size_t)blockIdx.x * side * side;
    double sums[1] = {};
    for (int n = threadIdx.x; n < side * side; n += THREADS)
        if (in_core(n, side)) sums[0] += star[n];
    add_up(sums);
    if (threadIdx.x == 0) flux[blockIdx.x] = (float)sums[0];
}

// The median star, as the first of the terms; grid (pixels).
extern "C" __global__ void __launch_bounds__(THREADS)
middle(const float* __restrict__ stars,          // (N, pixels)
       const float* __restrict__ flux,           // (N,)
       double* __restrict__ coefficients,        // (TERMS, pixels) 0 but for the first
       int count, int pixels) {
    extern __shared__ float shares[];            // (N,)
    __shared__ float found[3];
    for (int n = threadIdx.x; n < count; n += THREADS) shares[n] = stars[(size_t)n * pixels + blockIdx.x] / flux[n];
    __syncthreads();
    middles(shares, count, found);
    __syncthreads();
    if (threadIdx.x == 0) coefficients[blockIdx.x] = (count % 2 ? found[0] : 0.5f * (found[0] + found[1]));
}

extern "C" __global__ void __launch_bounds__(THREADS)
judge(const float* __restrict__ stars,           // (N, side, side)
      const float* __restrict__ terms,           // (N, TERMS)
      const double* __restrict__ noise,          // (N,)
      const double* __restrict__ coefficients,   // (TERMS, side, side)
      unsigned char* __restrict__ off,           // (N, side, side) pixels left out, of the last round and of this
      double* __restrict__ table,                // (N, COLUMNS)
      int side, int reach) {
    const int pixels = side * side;
    extern __shared__ float model[];             // (side, side), then two of unsigned char
    unsigned char *lit = (unsigned char*)(model + pixels), *beside = lit + pixels;
    stars += (size_t)blockIdx.x * pixels;
    off += (size_t)blockIdx.x * pixels;
    double light[2] = {}, sums[7] = {};
    for (int n = threadIdx.x; n < pixels; n += THREADS) {
        const float m = model[n] = model_of(terms + TERMS * blockIdx.x, coefficients + n, pixels);
        if (in_core(n, side) && !off[n]) {
            light[0] += (double)stars[n] * m;
            light[1] += (double)m * m;
        }
    }
    add_up(light);                               // its barrier is the model's too
    const double flux = light[0] / (light[1] > 1e-12 ? light[1] : 1e-12);
    const bool good = flux > 0.0;
    const float scale = good ? (float)flux : 1.f, relative = (float)(noise[blockIdx.x] / (good ? flux : 1.0));
    for (int n = threadIdx.x; n < pixels; n += THREADS) {
        const float m = model[n], value = stars[n] / scale, above = value - m;
        const float error = error_of(fabsf(m), relative), limit = CLIP * error;
        lit[n] = above > limit;
        off[n] = above > limit || above < -limit;
        if (!in_core(n, side)) continue;
        const int y = n / side, x = n % side;
        const float* row = model + y * side;
        const float round = model[(y + 1) % side * side + x] + model[(y + side - 1) % side * side + x] +
                            row[(x + 1) % side] + row[(x + side - 1) % side];
        const double blur = (double)(round / 4.f) - m, weight = 1.0 / ((double)error * error);
        sums[0] += 1.0;
        sums[1] += off[n];
        sums[2] += weight * m * m;
        sums[3] += weight * m * blur;
        sums[4] += weight * blur * blur;
        sums[5] += weight * m * value;
        sums[6] += weight * blur * value;
    }
    add_up(sums);
    for (int n = threadIdx.x; n < pixels; n += THREADS) {                    // a square is a row of rows
        const int y = n / side, x = n % side;
        unsigned char any = 0;
        for (int i = max(x - reach, 0); i <= min(x + reach, side - 1); i++) any |= lit[y * side + i];
        beside[n] = any;
    }
    __syncthreads();
    for (int n = threadIdx.x; n < pixels; n += THREADS) {
        if (in_core(n, side)) continue;
        const int y = n / side, x = n % side;
        unsigned char any = 0;
        for (int j = max(y - reach, 0); j <= min(y + reach, side - 1); j++) any |= beside[j * side + x];
        if (any) off[n] = 1;
    }
    if (threadIdx.x > 0) return;
    double* row = table + COLUMNS * (size_t)blockIdx.x;
    const double determinant = sums[2] * sums[4] - sums[3] * sums[3];
    row[SCALE] = scale;
    row[RELATIVE] = relative;
    row[GOOD] = good ? 1.0 + (sums[1] / sums[0] < SPOILT) : 0.0;             // 2: and few pixels of the core are off
    row[WIDER] = (sums[2] * sums[6] - sums[3] * sums[5]) / sqrt(sums[2] * determinant);
}

extern "C" __global__ void __launch_bounds__(THREADS)
keep(const double* __restrict__ table,           // (N, COLUMNS)
     unsigned char* __restrict__ kept,           // (N,)
     int count) {
    extern __shared__ double values[];           // (N,)
    __shared__ double found[3];
    for (int n = threadIdx.x; n < count; n += THREADS) values[n] = table[COLUMNS * n + WIDER];
    __syncthreads();
    middles(values, count, found);
    __syncthreads();
    const double middle = 0.5 * (found[0] + found[1]);
    const bool known = !isnan(found[2]);
    for (int n = threadIdx.x; n < count; n += THREADS) values[n] = fabs(values[n] - middle);
    __syncthreads();
    middles(values, count, found);
    __syncthreads();
    const double spread = 1.4826 * 0.5 * (found[0] + found[1]), limit = CLIP * (known && spread > 1.0 ? spread : 1.0);
    double sums[1] = {};
    for (int n = threadIdx.x; n < count; n += THREADS) {
        const double* row = table + COLUMNS * n;
        kept[n] = row[GOOD] > 1.0 && fabs(row[WIDER]) < limit;
        sums[0] += kept[n];
    }
    add_up(sums);
    if (sums[0] >= TERMS) return;
    for (int n = threadIdx.x; n < count; n += THREADS) kept[n] = table[COLUMNS * n + GOOD] > 0.0;
}

extern "C" __global__ void __launch_bounds__(THREADS)
solve(const float* __restrict__ stars,           // (N, pixels)
      const float* __restrict__ terms,           // (N, TERMS)
      const unsigned char* __restrict__ off,     // (N, pixels)
      const double* __restrict__ table,          // (N, COLUMNS)
      const unsigned char* __restrict__ kept,    // (N,)
      double* __restrict__ coefficients,         // (TERMS, pixels) of the last round and of this
      int count, int pixels) {
    __shared__ double parts[WARPS][SUMS][LANES];
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, pixel = blockIdx.x * LANES + lane;
    double sums[SUMS] = {};
    for (int star = warp; star < count && pixel < pixels; star += WARPS) {
        const float* t = terms + TERMS * star;
        const double* row = table + COLUMNS * star;
        const size_t at = (size_t)star * pixels + pixel;
        const float model = model_of(t, coefficients + pixel, pixels), size = fabsf(model);
        const float error = error_of(size, (float)row[RELATIVE]), weight = kept[star] / (error * error);
        const float light = weight * (off[at] ? model : stars[at] / (float)row[SCALE]);
        int next = 0;
        sums[next++] += size;
#pragma unroll
        for (int p = 0; p < TERMS; p++) {
            sums[next++] += (double)t[p] * light;
#pragma unroll
            for (int q = p; q < TERMS; q++) sums[next++] += (double)(t[p] * t[q]) * weight;
        }
    }
#pragma unroll
    for (int n = 0; n < SUMS; n++) parts[warp][n][lane] = sums[n];
    __syncthreads();
    if (warp > 0 || pixel >= pixels) return;
#pragma unroll
    for (int n = 0; n < SUMS; n++)
        for (int other = 1; other < WARPS; other++) sums[n] += parts[other][n][lane];
    const double mean = VARYING * sums[0] / count, expected = mean > 1e-12 ? mean : 1e-12;
    double m[TERMS][TERMS], x[TERMS];
    int next = 1;
#pragma unroll
    for (int p = 0; p < TERMS; p++) {
        x[p] = sums[next++];
#pragma unroll
        for (int q = p; q < TERMS; q++) m[p][q] = sums[next++];
        if (p > 0) m[p][p] += 1.0 / (expected * expected);
    }
#pragma unroll
    for (int n = 0; n < TERMS; n++) {            // the upper triangle; what is right of a pivot is a share of it afterwards
#pragma unroll
        for (int p = n + 1; p < TERMS; p++) {
            const double share = m[n][p] / m[n][n];
#pragma unroll
            for (int q = p; q < TERMS; q++) m[p][q] -= share * m[n][q];
            x[p] -= share * x[n];
        }
        x[n] /= m[n][n];
#pragma unroll
        for (int p = n + 1; p < TERMS; p++) m[n][p] /= m[n][n];
    }
#pragma unroll
    for (int n = TERMS - 1; n > 0; n--)
#pragma unroll
        for (int p = 0; p < n; p++) x[p] -= m[p][n] * x[n];
#pragma unroll
    for (int p = 0; p < TERMS; p++) coefficients[(size_t)p * pixels + pixel] = x[p];
}
