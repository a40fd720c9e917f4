// All pairs of positions on the sky within a radius, by zones of declination: count, the host's prefix sum, write.
//
// NumPy twin: gpudiff/arrays/zone_join.py, joined(). Contract: exact, and in the same order: rows rising, then the order of the
// keys; every product and sum of the test is rounded by itself, as NumPy's are. The host makes searches and directions.
// Layout: a warp a search (grid x), 8 a block. Even lanes look for its first key, odd ones for its last; then 32 neighbours
// of the sorted list are tested at a time.
constexpr int WARPS = 8;

// How many keys lie before the wanted one; `after`: or are equal to it.
__device__ int rank(const double* __restrict__ key, int known, double wanted, bool after) {
    int low = 0, high = known;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const double one = key[middle];
        if (after ? one <= wanted : one < wanted) low = middle + 1;
        else high = middle;
    }
    return low;
}

// Whether the known position at a place is near enough to a direction.
__device__ bool near(const double* __restrict__ vectors, int known, int place, const double* direction, double chord2) {
    const double x = direction[0] - vectors[place];
    const double y = direction[1] - vectors[(size_t)known + place];
    const double z = direction[2] - vectors[2 * (size_t)known + place];
    return __dadd_rn(__dadd_rn(__dmul_rn(x, x), __dmul_rn(y, y)), __dmul_rn(z, z)) <= chord2;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
count_pairs(const double* __restrict__ searches,       // (W, 2) first and last key
            const double* __restrict__ key,            // (K,) rising
            const double* __restrict__ directions,     // (W, 3) of the searches' positions
            const double* __restrict__ vectors,        // (3, K) in the order of the keys
            int* __restrict__ spans,                   // (W, 2) places that each search reaches
            int* __restrict__ counts,                  // (W,) pairs
            int windows, int known, double chord2) {
    const int search = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (search >= windows) return;               // the whole warp
    const bool last = lane % 2;
    const int found = rank(key, known, searches[2 * search + last], last);
    const int begin = __shfl_sync(0xffffffffu, found, 0), end = __shfl_sync(0xffffffffu, found, 1);
    int pairs = 0;
    for (int start = begin; start < end; start += 32) {
        const int place = start + lane;
        const bool is = place < end && near(vectors, known, place, directions + 3 * (size_t)search, chord2);
        pairs += __popc(__ballot_sync(0xffffffffu, is));
    }
    if (lane < 2) spans[2 * search + lane] = found;
    if (lane == 0) counts[search] = pairs;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
write_pairs(const int* __restrict__ spans,             // (W, 2)
            const long long* __restrict__ starts,      // (W,) where each search's pairs begin
            const int* __restrict__ rows,              // (W,) which position each search is of
            const double* __restrict__ directions,     // (W, 3)
            const double* __restrict__ vectors,        // (3, K)
            const int* __restrict__ order,             // (K,) which known position lies at each place
            int* __restrict__ i, int* __restrict__ j,  // (P,) the pairs
            int windows, int known, double chord2) {
    const int search = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (search >= windows) return;
    long long next = starts[search];
    const int begin = spans[2 * search], end = spans[2 * search + 1];
    for (int start = begin; start < end; start += 32) {
        const int place = start + lane;
        const bool is = place < end && near(vectors, known, place, directions + 3 * (size_t)search, chord2);
        const unsigned those = __ballot_sync(0xffffffffu, is);
        if (is) {
            const long long pair = next + __popc(those & ((1u << lane) - 1));
            i[pair] = rows[search];
            j[pair] = order[place];
        }
        next += __popc(those);
    }
}
