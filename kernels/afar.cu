// Parts of a plane that stays on the device, for the host to look at: squares of 16 x 16 pixels, rows and columns of a lattice.
//
// NumPy twin: gpudiff/arrays/afar.py, a function of the same name for each. Contract: exact; 0 beyond the plane.
// Layout: `squares` a block of 256 threads a square, a thread a pixel; `lattice` a thread a value.
// Specialised by -DVALUE=<float or unsigned char>.
#ifndef VALUE
#define VALUE float
#endif
constexpr int SIDE = 16;

extern "C" __global__ void __launch_bounds__(256)
squares(const VALUE* __restrict__ plane,                 // (height, width)
        const int* __restrict__ rows, const int* __restrict__ columns,      // (N,) numbers of the squares along y and x
        VALUE* __restrict__ found,                       // (N, SIDE, SIDE)
        int width, int height) {
    const size_t n = blockIdx.x;
    const int y = rows[n] * SIDE + threadIdx.x / SIDE, x = columns[n] * SIDE + threadIdx.x % SIDE;
    found[n * SIDE * SIDE + threadIdx.x] = x < width && y < height ? plane[(size_t)y * width + x] : (VALUE)0;
}

extern "C" __global__ void __launch_bounds__(256)
lattice(const VALUE* __restrict__ plane,                 // (height, width)
        const int* __restrict__ rows, const int* __restrict__ columns,      // (tall,), (wide,)
        VALUE* __restrict__ found,                       // (tall, wide)
        int width, int height, int tall, int wide) {
    const size_t n = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (n < (size_t)tall * wide) found[n] = plane[(size_t)rows[n / wide] * width + columns[n % wide]];
}
