// What the host does to planes that lie on the device: single pixels, a smooth sky, a factor.
//
// NumPy twin: gpudiff/arrays/retouch.py, a function of the same name for each. Contract: `put` and `rescale` exact, `take_sky`
// and `lift` in float32 sums; pixels are numbered through the whole batch and each stands at most once in a list.
// Layout: `put` a thread a pixel of the list (grid x); `take_sky`, `lift` and `rescale` a thread a pixel (grid x, image in z), 256 a block.

// A value each, or 0 or 1 into a plane of bytes.
extern "C" __global__ void __launch_bounds__(256)
put(float* __restrict__ planes, const int* __restrict__ pixels, const float* __restrict__ values, int count) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < count) planes[pixels[n]] = values[n];
}

extern "C" __global__ void __launch_bounds__(256)
mark(unsigned char* __restrict__ planes, const int* __restrict__ pixels, int count, int value) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < count) planes[pixels[n]] = (unsigned char)value;
}

// The smooth plane rows @ columns at a pixel of image b.
static __device__ float smooth(const float* __restrict__ rows,     // (B, height, cells)
                               const float* __restrict__ columns,  // (B, cells, width)
                               size_t b, size_t pixel, int width, int height, int cells) {
    const size_t y = pixel / width, x = pixel % width;
    float value = 0.f;
    for (int cell = 0; cell < cells; cell++)
        value = fmaf(rows[(b * height + y) * cells + cell], columns[(b * cells + cell) * width + x], value);
    return value;
}

extern "C" __global__ void __launch_bounds__(256)
take_sky(float* __restrict__ planes,             // (B, height, width)
         const float* __restrict__ rows, const float* __restrict__ columns, int width, int height, int cells) {
    const size_t pixel = (size_t)blockIdx.x * blockDim.x + threadIdx.x, size = (size_t)width * height;
    if (pixel < size) planes[blockIdx.z * size + pixel] -= smooth(rows, columns, blockIdx.z, pixel, width, height, cells);
}

extern "C" __global__ void __launch_bounds__(256)
lift(float* __restrict__ planes,                 // (B, height, width)
     const float* __restrict__ rows, const float* __restrict__ columns, int width, int height, int cells) {
    const size_t pixel = (size_t)blockIdx.x * blockDim.x + threadIdx.x, size = (size_t)width * height;
    if (pixel < size) planes[blockIdx.z * size + pixel] *= smooth(rows, columns, blockIdx.z, pixel, width, height, cells);
}

extern "C" __global__ void __launch_bounds__(256)
rescale(float* __restrict__ planes,              // (B, size)
        const float* __restrict__ factors,       // (B,)
        int size, int divides) {
    const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= size) return;
    float* value = planes + (size_t)blockIdx.z * size + pixel;
    *value = divides ? *value / factors[blockIdx.z] : *value * factors[blockIdx.z];
}
