// The pixels of a score plane that are at or above a threshold, of either sign (`beyond`), or of those the largest within
// 5 x 5 (`tops`): a list.
//
// NumPy twin: gpudiff/arrays/components.py, tops() and beyond(). Contract: exact; pixels beyond the image count for nothing.
// Layout: grid (tiles in x, tiles in y, image), a block a tile of 32 x 8 pixels, a thread a pixel; the tile with a halo of 2
// lies in shared memory, and where nothing in it reaches the threshold the block ends at once.
// The list is in the order in which warps arrive, one atomic a warp; the host sorts it.
constexpr int WIDTH = 32, HEIGHT = 8, HALO = 2, STRIDE = WIDTH + 2 * HALO;

// Every lane of the warp calls this; those whose pixel is a top get a place each.
__device__ void list(bool top, int pixel, float score, int* count, int* places, float* values, int capacity) {
    const unsigned those = __ballot_sync(0xffffffffu, top);
    if (those == 0) return;
    const int lane = threadIdx.x % 32, leader = __ffs(those) - 1;
    int first = 0;
    if (lane == leader) first = atomicAdd(count, __popc(those));
    first = __shfl_sync(0xffffffffu, first, leader);
    const int place = first + __popc(those & ((1u << lane) - 1));
    if (top && place < capacity) {
        places[place] = pixel;
        values[place] = score;
    }
}

extern "C" __global__ void __launch_bounds__(256)
tops(const float* __restrict__ scores,                   // (B, height, width)
     int* __restrict__ counts,                           // (B,) zero before; all of them, listed or not
     int* __restrict__ places,                           // (B, capacity) y * width + x
     float* __restrict__ values,                         // (B, capacity)
     int width, int height, float threshold, int capacity) {
    __shared__ float tile[(HEIGHT + 2 * HALO) * STRIDE];
    __shared__ int any;
    const size_t plane = (size_t)blockIdx.z * width * height;
    const int x0 = blockIdx.x * WIDTH, y0 = blockIdx.y * HEIGHT;
    if (threadIdx.x == 0) any = 0;
    __syncthreads();
    for (int n = threadIdx.x; n < (HEIGHT + 2 * HALO) * STRIDE; n += blockDim.x) {
        const int x = x0 + n % STRIDE - HALO, y = y0 + n / STRIDE - HALO;
        const bool inside = x >= 0 && x < width && y >= 0 && y < height;
        tile[n] = inside ? fabsf(scores[plane + (size_t)y * width + x]) : 0.f;
        if (tile[n] >= threshold) atomicOr(&any, 1);
    }
    __syncthreads();
    if (!any) return;                                    // the whole block
    const int column = threadIdx.x % WIDTH, row = threadIdx.x / WIDTH, x = x0 + column, y = y0 + row;
    const float own = tile[(row + HALO) * STRIDE + column + HALO];
    bool top = own >= threshold && x < width && y < height;
    for (int j = 0; j < 5; j++)
        for (int i = 0; i < 5; i++) top = top && own >= tile[(row + j) * STRIDE + column + i];
    const size_t first = (size_t)blockIdx.z * capacity;
    const float score = top ? scores[plane + (size_t)y * width + x] : 0.f;
    list(top, y * width + x, score, counts + blockIdx.z, places + first, values + first, capacity);
}

extern "C" __global__ void __launch_bounds__(256)
beyond(const float* __restrict__ planes, int* __restrict__ counts, int* __restrict__ places, float* __restrict__ values,
       int width, int height, float threshold, int capacity) {
    const int x = blockIdx.x * WIDTH + threadIdx.x % WIDTH, y = blockIdx.y * HEIGHT + threadIdx.x / WIDTH;
    const bool inside = x < width && y < height;
    const float value = inside ? planes[(size_t)blockIdx.z * width * height + (size_t)y * width + x] : 0.f;
    const size_t first = (size_t)blockIdx.z * capacity;
    list(inside && fabsf(value) >= threshold, y * width + x, value, counts + blockIdx.z, places + first, values + first, capacity);
}
