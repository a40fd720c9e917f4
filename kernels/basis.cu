// Stamps convolved with all functions of an Alard-Lupton basis, whose factors are separable.
//
// NumPy twin: gpudiff/arrays/basis.py, Basis.convolve(). Contract: float32 sums for the separable functions, double for the
// mixture of them, whose terms cancel; any number of stamps, any sides.
// Two kernels, one after the other. `separate`: grid (filters, stamps), a block one filter in x and every filter in y that
// goes with it; the rows filtered in x lie in shared memory. `mix`: grid (strips of 256 pixels, stamps), a thread a pixel of
// all functions; neighbouring threads read neighbouring pixels.
constexpr int THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS)
separate(const float* __restrict__ stamps,       // (N, side, side)
         const float* __restrict__ filters,      // (A, width) flipped, so that convolution becomes correlation
         const int* __restrict__ table,          // (A, 4): own place in its Gaussian, its first filter, their number, first function
         float* __restrict__ separable,          // (N, functions, size, size)
         int side, int size, int width, int functions) {
    extern __shared__ float rows[];              // [side][size]
    const int* own = table + 4 * blockIdx.x;
    const int i = own[0], first = own[1], filters_in_y = own[2] - i;
    const float* stamp = stamps + (size_t)blockIdx.y * side * side;
    const float* across = filters + blockIdx.x * width;
    for (int n = threadIdx.x; n < side * size; n += THREADS) {
        const float* pixel = stamp + n / size * side + n % size;
        float sum = 0.f;
        for (int k = 0; k < width; k++) sum = fmaf(pixel[k], across[k], sum);
        rows[n] = sum;
    }
    __syncthreads();
    int function = own[3] + i;                   // x inner: after the functions of j come own[2] - j others
    for (int j = 0; j < filters_in_y; j++) {
        const float* down = filters + (first + j) * width;
        float* out = separable + ((size_t)blockIdx.y * functions + function) * size * size;
        for (int n = threadIdx.x; n < size * size; n += THREADS) {
            float sum = 0.f;
            for (int k = 0; k < width; k++) sum = fmaf(rows[n + k * size], down[k], sum);
            out[n] = sum;
        }
        function += own[2] - j;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
mix(const float* __restrict__ separable,         // (N, functions, pixels)
    const double* __restrict__ mixture,          // (mixed, functions)
    float* __restrict__ values,                  // (N, mixed + 1, pixels), the last all 1
    int functions, int mixed, int pixels) {
    const int pixel = blockIdx.x * THREADS + threadIdx.x;
    if (pixel >= pixels) return;
    const float* from = separable + (size_t)blockIdx.y * functions * pixels + pixel;
    float* to = values + (size_t)blockIdx.y * (mixed + 1) * pixels + pixel;
    for (int m = 0; m < mixed; m++) {
        double sum = 0.0;
#pragma unroll 2
        for (int n = 0; n < functions; n++) sum = fma((double)from[n * pixels], mixture[m * functions + n], sum);
        to[m * pixels] = (float)sum;
    }
    to[mixed * pixels] = 1.f;
}
