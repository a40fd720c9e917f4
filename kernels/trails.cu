// How well lines of many lengths, angles and places explain stamps: their squared signal to noise.
//
// NumPy twin: gpudiff/arrays/trails.py, line_powers(). Contract: float32 sums; a line that is moved loses what leaves the stamp,
// and there is nothing where nothing comes from.
// Layout: a block a line of one length and turn for a stamp (grid x lengths, y turns, z stamps), 128 threads, a thread every
// 128th pixel, all its places at once. Sums go by shuffles, then over the warps in order, so no two runs differ.
constexpr int THREADS = 128, WARPS = THREADS / 32, PLACES = 6;

extern "C" __global__ void __launch_bounds__(THREADS)
line_powers(const float* __restrict__ lines,             // (angles, lengths, side, side), in the middle
            const float* __restrict__ planes,            // (N, 2, side, side): weights, and these times data
            const int* __restrict__ turns,               // (N, turns) of the angles
            const int* __restrict__ first,               // (N, 2) y, x that a line is moved by at its first place
            const int* __restrict__ moves,               // (angles, lengths, PLACES - 1, 2) and at the others
            float* __restrict__ powers,                  // (N, turns, lengths, PLACES)
            int side) {
    __shared__ float parts[WARPS][2 * PLACES];
    const int length = blockIdx.x, lengths = gridDim.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int group = blockIdx.z * gridDim.y + blockIdx.y, line = turns[group] * lengths + length;
    const float *drawn = lines + (size_t)line * side * side, *weight = planes + (size_t)2 * blockIdx.z * side * side;
    float sums[2 * PLACES] = {};
    for (int n = threadIdx.x; n < side * side; n += THREADS) {
        const float own = weight[n], weighted = weight[side * side + n];
#pragma unroll
        for (int place = 0; place < PLACES; place++) {
            const int* by = place ? moves + 2 * (line * (PLACES - 1) + place - 1) : first + 2 * blockIdx.z;
            const int y = n / side - by[0], x = n % side - by[1];
            if (y < 0 || y >= side || x < 0 || x >= side) continue;
            const float light = drawn[y * side + x];
            sums[2 * place] += light * weighted;
            sums[2 * place + 1] += light * light * own;
        }
    }
#pragma unroll
    for (int n = 0; n < 2 * PLACES; n++) {
        for (int step = 16; step > 0; step /= 2) sums[n] += __shfl_xor_sync(0xffffffffu, sums[n], step);
        if (lane == 0) parts[warp][n] = sums[n];
    }
    __syncthreads();
    if (threadIdx.x >= PLACES) return;
    float seen = 0.f, information = 0.f;
    for (int n = 0; n < WARPS; n++) {
        seen += parts[n][2 * threadIdx.x];
        information += parts[n][2 * threadIdx.x + 1];
    }
    powers[(group * lengths + length) * PLACES + threadIdx.x] = seen * seen / fmaxf(information, 1e-30f);
}
