// The surface that fits the cells round a cell, in its middle, with Gaussian weights, and the share that is the cell's own.
//
// NumPy twin: gpudiff/arrays/residual_sky.py, fitted(). Contract: all in double; what weighs nothing to double is left out.
// Layout: a warp a cell that is predicted (grid x), the jobs one after another: a lane every 32nd column of the cells near it.
// Sums go by shuffles, so no two runs differ.
constexpr int POWERS = 6, MOST = 64;
constexpr unsigned ALL = 0xffffffffu;

__device__ double summed(double value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(ALL, value, step);
    return value;
}

extern "C" __global__ void __launch_bounds__(32)
fitted(const double* __restrict__ cells,                 // of each grid (2, height, width): sums, numbers of pixels
       const int* __restrict__ jobs,                     // (count, 8): first block, place of its grid in cells, height, width,
                                                         // steps down and across, predicted cells in a row, reach of weights
       const double* __restrict__ scales,                // (count, 2): width of the weights, stiffness
       double* __restrict__ found,                       // (2, blocks): value in the middle, share that is its own
       int count) {
    constexpr int DOWN[POWERS] = {0, 1, 2, 0, 1, 0}, ACROSS[POWERS] = {2, 1, 0, 1, 0, 0};
    __shared__ double weights[MOST];
    int number = 0;
    while (number + 1 < count && jobs[8 * (number + 1)] <= (int)blockIdx.x) number++;
    const int* job = jobs + 8 * number;
    const int height = job[2], width = job[3], n = blockIdx.x - job[0], far = job[7];
    const int y = n / job[6] * job[4], x = n % job[6] * job[5];
    const double scale = 1.0 / scales[2 * number], stiff = scales[2 * number + 1];
    const double *sums = cells + job[1], *pixels = sums + (size_t)height * width;
    for (int at = threadIdx.x; at <= 2 * far; at += 32) weights[at] = exp(-0.5 * (at - far) * scale * (at - far) * scale);
    __syncthreads();
    double moments[5][5] = {}, levels[3][3] = {};        // by powers of the distance down and across
    for (int column = max(x - far, 0) + threadIdx.x; column <= min(x + far, width - 1); column += 32) {
        double of_pixels[5] = {}, of_sums[3] = {};
        for (int row = max(y - far, 0); row <= min(y + far, height - 1); row++) {
            const double distance = (row - y) * scale, weight = weights[row - y + far];
            double share = weight * pixels[row * width + column];
#pragma unroll
            for (int p = 0; p < 5; p++, share *= distance) of_pixels[p] += share;
            share = weight * sums[row * width + column];
#pragma unroll
            for (int p = 0; p < 3; p++, share *= distance) of_sums[p] += share;
        }
        double share = weights[column - x + far];
#pragma unroll
        for (int q = 0; q < 5; q++, share *= (column - x) * scale)
#pragma unroll
            for (int p = 0; p + q < 5; p++) {
                moments[p][q] += share * of_pixels[p];
                if (p + q < 3) levels[p][q] += share * of_sums[p];
            }
    }
#pragma unroll
    for (int q = 0; q < 5; q++)
#pragma unroll
        for (int p = 0; p + q < 5; p++) {
            moments[p][q] = summed(moments[p][q]);
            if (p + q < 3) levels[p][q] = summed(levels[p][q]);
        }
    double rows[POWERS][POWERS + 1];
#pragma unroll
    for (int i = 0; i < POWERS; i++) {
#pragma unroll
        for (int j = i; j < POWERS; j++) rows[i][j] = moments[DOWN[i] + DOWN[j]][ACROSS[i] + ACROSS[j]];
        rows[i][i] += stiff;
        rows[i][POWERS] = levels[DOWN[i]][ACROSS[i]];
    }
#pragma unroll
    for (int i = 0; i < POWERS; i++)
#pragma unroll
        for (int j = i + 1; j < POWERS; j++) {
            const double share = rows[i][j] / rows[i][i];
#pragma unroll
            for (int k = j; k <= POWERS; k++) rows[j][k] -= share * rows[i][k];
        }
    if (threadIdx.x) return;
    found[blockIdx.x] = rows[POWERS - 1][POWERS] / rows[POWERS - 1][POWERS - 1];
    found[gridDim.x + blockIdx.x] = pixels[y * width + x] / rows[POWERS - 1][POWERS - 1];
}
