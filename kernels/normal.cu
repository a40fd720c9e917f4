// The sums of the normal equations of each stamp, and the model that a solution of them makes.
//
// NumPy twin: gpudiff/arrays/normal.py, grams() and models(). Contract: `grams` in double throughout (the condition reaches
// 3e10); `models` float32 sums; any numbers of stamps, functions and pixels.
// Layout: `grams` grid (entries / 256, stamps), a thread one entry of the upper triangle of (functions + target)^2; the
// block's pixels, CHUNK at a time, lie in shared memory, times the root of their weights. `models` grid (strips of 256 pixels,
// stamps), a thread a pixel.
constexpr int THREADS = 256, CHUNK = 32;

extern "C" __global__ void __launch_bounds__(THREADS)
grams(const float* __restrict__ design,          // (N, functions, pixels)
      const float* __restrict__ targets,         // (N, pixels)
      const float* __restrict__ weights,         // (N, pixels), not negative
      double* __restrict__ sums,                 // (N, entries) upper triangle, row by row, of functions + 1, the target last
      int functions, int pixels) {
    extern __shared__ double scaled[];           // [CHUNK][functions + 1]: lanes read neighbours, or one value
    const int rows = functions + 1, entry = blockIdx.x * THREADS + threadIdx.x;
    const int row = entry / rows, column = entry % rows;
    const bool mine = row < rows && column >= row;
    design += (size_t)blockIdx.y * functions * pixels;
    targets += (size_t)blockIdx.y * pixels;
    weights += (size_t)blockIdx.y * pixels;
    double sum = 0.0;
#pragma unroll 1
    for (int start = 0; start < pixels; start += CHUNK) {
        const int count = min(CHUNK, pixels - start);
        __syncthreads();
        for (int n = threadIdx.x; n < rows * count; n += THREADS) {
            const int function = n / count, pixel = n % count, at = start + pixel;
            const float value = function == functions ? targets[at] : design[function * pixels + at];
            scaled[pixel * rows + function] = (double)value * sqrt((double)weights[at]);
        }
        __syncthreads();
        if (mine)
#pragma unroll 2
            for (int pixel = 0; pixel < count; pixel++)
                sum = fma(scaled[pixel * rows + row], scaled[pixel * rows + column], sum);
    }
    const int before = row * rows - row * (row - 1) / 2;  // entries of the rows above
    if (mine) sums[(size_t)blockIdx.y * (rows * (rows + 1) / 2) + before + column - row] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
models(const float* __restrict__ design,         // (N, functions, pixels)
       const float* __restrict__ coefficients,   // (N, functions - 1): the last function, of ones, has none
       float* __restrict__ out,                  // (N, pixels)
       int functions, int pixels) {
    const int pixel = blockIdx.x * THREADS + threadIdx.x;
    if (pixel >= pixels) return;
    const size_t stamp = blockIdx.y;
    float sum = 0.f;
    for (int n = 0; n < functions - 1; n++)
        sum = fmaf(design[(stamp * functions + n) * pixels + pixel], coefficients[stamp * (functions - 1) + n], sum);
    out[stamp * pixels + pixel] = sum;
}
