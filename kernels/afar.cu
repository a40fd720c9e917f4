// Parts of a plane that stays on the device, for the host to look at: single pixels, rows and columns of a lattice, squares
// round pixels, which flags are set.
//
// NumPy twins: gpudiff/arrays/afar.py, pixels() and lattice(); gpudiff/arrays/stamps.py, stamps(); of packed(),
// np.flatnonzero(). Contract: exact; beyond the plane a square repeats its edge pixels.
// Layout: a thread a value.
// Specialised by -DVALUE=<float or unsigned char>.
#ifndef VALUE
#define VALUE float
#endif

extern "C" __global__ void __launch_bounds__(256)
pixels(const VALUE* __restrict__ plane,                  // (height, width)
       const int* __restrict__ numbers,                  // (count,) row by row
       VALUE* __restrict__ found,                        // (count,)
       int width, int height, int count, int wide) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < count) found[n] = plane[numbers[n]];
}

extern "C" __global__ void __launch_bounds__(256)
lattice(const VALUE* __restrict__ plane,                 // (height, width)
        const int* __restrict__ rows, const int* __restrict__ columns,      // (tall,), (wide,)
        VALUE* __restrict__ found,                       // (tall, wide)
        int width, int height, int count, int wide) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n < count) found[n] = plane[(size_t)rows[n / wide] * width + columns[n % wide]];
}

extern "C" __global__ void __launch_bounds__(256)
stamps(const VALUE* __restrict__ plane,                  // (height, width)
       const int* __restrict__ rows, const int* __restrict__ columns,       // (N,) the pixels in the middle
       VALUE* __restrict__ found,                        // (N, side, side)
       int width, int height, int count, int side) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    const int of = n / (side * side), half = side / 2;
    const int y = rows[of] + n / side % side - half, x = columns[of] + n % side - half;
    found[n] = plane[(size_t)min(max(y, 0), height - 1) * width + min(max(x, 0), width - 1)];
}

// Where a plane of flags is set: pixel 32 n + k is bit k of word n.
extern "C" __global__ void __launch_bounds__(256)
packed(const VALUE* __restrict__ plane,                  // (count,)
       unsigned* __restrict__ words,                     // (ceil(count / 32),)
       int count) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned word = __ballot_sync(0xffffffffu, n < count && plane[n] != 0);
    if (n % 32 == 0 && n < count) words[n / 32] = word;
}
