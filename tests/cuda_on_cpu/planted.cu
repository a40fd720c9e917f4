// Kernels that are wrong on purpose, and one that is right: the layer must tell them apart.

template <int N> __device__ float next(float value) {
    __shared__ float values[N];
    values[threadIdx.x] = value;
    __syncthreads();
    return values[(threadIdx.x + 1) % N];
}
extern "C" __global__ void right(float* out, int n) {
    __shared__ float s[64];
    const float neighbour = next<64>(threadIdx.x);
    s[threadIdx.x] = neighbour;
    __syncwarp();
    float sum = neighbour;
    for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    if (threadIdx.x < n) out[threadIdx.x] = s[threadIdx.x] + 0.f * sum;
}
extern "C" __global__ void writes_beyond_an_array(float* out, int n) { out[threadIdx.x + 1] = n; }
extern "C" __global__ void reads_before_an_array(float* out, int n) { out[threadIdx.x] = out[(int)threadIdx.x - n]; }
extern "C" __global__ void writes_beyond_shared(float* out, int n) {
    __shared__ float s[64];
    s[threadIdx.x + 1] = 2.f;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void writes_beyond_dynamic_shared(float* out, int n) {
    extern __shared__ float s[];
    s[threadIdx.x + 1] = 2.f;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void overflows(float* out, int n) { out[threadIdx.x] = n * 0x7fffffff * 2; }
extern "C" __global__ void is_misaligned(float* out, int n) { out[threadIdx.x] = ((const float4*)(out + n))->x; }
extern "C" __global__ void reads_before_the_barrier(float* out, int n) {       // no barrier between write and read
    __shared__ float s[64];
    s[threadIdx.x] = n;
    out[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void writes_after_read(float* out, int n) {              // no barrier between read and write
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    s[threadIdx.x] = s[(threadIdx.x + n) % 64];
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void counts_without_atomics(float* out, int n) { out[0] += n; }
extern "C" __global__ void trusts_a_shuffle_to_order_memory(float* out, int n) {
    __shared__ float s[64];
    s[threadIdx.x] = n;
    __shfl_sync(0xffffffffu, n, 0);
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}
extern "C" __global__ void some_threads_exit(float* out, int n) {
    if (threadIdx.x < 7) return;
    __syncthreads();
    out[threadIdx.x] = n;
}
extern "C" __global__ void diverges(float* out, int n) {                       // two different barriers
    if (threadIdx.x < 32) __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = n;
}
extern "C" __global__ void diverges_within_a_warp(float* out, int n) {
    if (threadIdx.x % 32 < 7) out[threadIdx.x] = __shfl_sync(0xffffffffu, n, 0);
}
extern "C" __global__ void depends_on_the_order_of_blocks(float* out, int n) {
    if (threadIdx.x == 0) out[0] = out[0] * 2 * n + blockIdx.x;
}
