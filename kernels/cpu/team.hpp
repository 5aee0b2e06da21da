// A few threads that run the same function, each on its share of the work.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "loops.hpp"

namespace pnp {

class Team {
public:
    // Starts size - 1 threads; the calling thread is member 0. The team is smaller where the system
    // starts no more threads, or has no memory for them.
    explicit Team(int size) {
        try {
            for (int member = 1; member < size; member++)
                helpers_.emplace_back([this, member] { work_until_stopped(member); });
        } catch (const std::exception &) {
        }
    }

    ~Team() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stopped_ = true;
        }
        start_.notify_all();
        for (auto &helper : helpers_) helper.join();
    }

    Team(const Team &) = delete;
    Team &operator=(const Team &) = delete;

    int size() const { return int(helpers_.size()) + 1; }

    // Calls work(member) in all members at once, and waits for them. Rethrows the first exception.
    void run(const std::function<void(int)> &work) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work;
            failure_ = nullptr;
            busy_ = int(helpers_.size());
            round_++;
        }
        start_.notify_all();
        attempt(0);
        std::unique_lock<std::mutex> lock(mutex_);
        end_.wait(lock, [this] { return busy_ == 0; });
        if (failure_) std::rethrow_exception(failure_);
    }

    // Calls work(member, first, last) with each member's share of [0, count). A share starts at a
    // multiple of BLOCK.
    template <class Work>
    void share(int64_t count, const Work &work) {
        const int64_t blocks = (count + BLOCK - 1) / BLOCK;
        run([&](int member) {
            work(member, blocks * member / size() * BLOCK,
                 std::min(blocks * (member + 1) / size() * BLOCK, count));
        });
    }

private:
    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable start_, end_;
    const std::function<void(int)> *work_ = nullptr;
    std::exception_ptr failure_;
    int64_t round_ = 0;
    int busy_ = 0;
    bool stopped_ = false;

    void attempt(int member) {
        try {
            (*work_)(member);
        } catch (...) {
            std::lock_guard<std::mutex> lock(mutex_);
            if (!failure_) failure_ = std::current_exception();
        }
    }

    void work_until_stopped(int member) {
        for (int64_t finished_round = 0;;) {
            {
                std::unique_lock<std::mutex> lock(mutex_);
                start_.wait(lock, [&] { return stopped_ || round_ != finished_round; });
                if (stopped_) return;
                finished_round = round_;
            }
            attempt(member);
            std::lock_guard<std::mutex> lock(mutex_);
            if (--busy_ == 0) end_.notify_one();
        }
    }
};

}  // namespace pnp
