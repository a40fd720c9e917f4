// Adaptive Gaussian-weighted moments of stars on stamps: offset from the stamp's centre, and width.
//
// NumPy twin: gpudiff/arrays/moments.py, moments(). Contract: all in double, as in NumPy; sums in an order of their own that no
// two runs differ in.
// Layout: a block a stamp (grid x), 128 threads, a thread every 128th pixel; the weight's two factors lie in shared memory.
constexpr int THREADS = 128, WARPS = THREADS / 32, ROUNDS = 10;

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

// NaN stays NaN.
__device__ double within(double value, double low, double high) { return value < low ? low : value > high ? high : value; }

extern "C" __global__ void __launch_bounds__(THREADS)
moments(const float* __restrict__ stamps,        // (N, side, side)
        double* __restrict__ table,              // (3, N) dy, dx, sigma
        int side, double start) {
    extern __shared__ double down[];             // (side,), then as many across
    double* across = down + side;
    const float* stamp = stamps + (size_t)blockIdx.x * side * side;
    double dy = 0.0, dx = 0.0, sigma = start;
    for (int round = 0; round < ROUNDS; round++) {
        for (int n = threadIdx.x; n < side; n += THREADS) {
            const double y = (n - side / 2 - dy) / sigma, x = (n - side / 2 - dx) / sigma;
            down[n] = exp(-0.5 * y * y);
            across[n] = exp(-0.5 * x * x);
        }
        __syncthreads();
        double sums[4] = {};
        for (int n = threadIdx.x; n < side * side; n += THREADS) {
            const int row = n / side, column = n % side;
            const double light = down[row] * across[column] * stamp[n];
            const double y = row - side / 2 - dy, x = column - side / 2 - dx;
            sums[0] += light;
            sums[1] += light * y;
            sums[2] += light * x;
            sums[3] += light * (y * y + x * x);
        }
        add_up(sums);                            // its barrier comes before the next round's weights
        const double flux = sums[0] < 1e-9 ? 1e-9 : sums[0];
        const double width2 = 0.5 * sums[3] / flux, left = 1.0 / (width2 < 0.1 ? 0.1 : width2) - 1.0 / (sigma * sigma);
        dy = within(dy + 2.0 * sums[1] / flux, -2.0, 2.0);
        dx = within(dx + 2.0 * sums[2] / flux, -2.0, 2.0);
        sigma = sqrt(within(1.0 / (left < 1e-2 ? 1e-2 : left), 0.25, 256.0));
    }
    if (threadIdx.x > 0) return;
    table[blockIdx.x] = dy;
    table[gridDim.x + blockIdx.x] = dx;
    table[2 * gridDim.x + blockIdx.x] = sigma;
}
