package amazon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

// A source answers a poller's questions, and counts them.
type source struct {
	mu     sync.Mutex
	calls  int
	asked  int
	errs   []error // answered first
	values map[string]int
}

func (s *source) describe(_ context.Context, ids []string) (map[string]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.asked += len(ids)
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		return nil, err
	}
	out := map[string]int{}
	for _, id := range ids {
		if s.values[id] >= 0 {
			s.values[id]++
			out[id] = s.values[id]
		}
	}
	return out, nil
}

func fastPoller(s *source) *poller[int] {
	p := newPoller(s.describe)
	p.first, p.gap = time.Millisecond, time.Millisecond
	return p
}

// Many waits share their calls.
func TestPollerBatches(t *testing.T) {
	s := &source{values: map[string]int{}}
	p := fastPoller(s)
	p.gap = 20 * time.Millisecond
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			err := p.follow(t.Context(), fmt.Sprint("id-", i%40), 10*time.Millisecond, func(v int, _ bool) (bool, error) { return v >= 5, nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.asked < 200 || s.calls > s.asked/10 {
		t.Errorf("%d calls for %d questions", s.calls, s.asked)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.watches) != 0 {
		t.Errorf("%d waits are still there", len(p.watches))
	}
}

// A batch has at most as many ids as EC2 takes.
func TestPollerSplits(t *testing.T) {
	var mu sync.Mutex
	most := 0
	p := newPoller(func(_ context.Context, ids []string) (map[string]int, error) {
		mu.Lock()
		defer mu.Unlock()
		most = max(most, len(ids))
		out := map[string]int{}
		for _, id := range ids {
			out[id] = 1
		}
		return out, nil
	})
	p.first, p.gap = time.Millisecond, 50*time.Millisecond
	var wg sync.WaitGroup
	for i := range 250 {
		wg.Go(func() {
			n := 0
			_ = p.follow(t.Context(), fmt.Sprint(i), time.Millisecond, func(int, bool) (bool, error) { n++; return n == 3, nil })
		})
	}
	wg.Wait()
	if most > batch || most < 2 {
		t.Errorf("asked for %d at once, want 2 to %d", most, batch)
	}
}

func TestPollerTrouble(t *testing.T) {
	throttled := apiError("RequestLimitExceeded", "slow down")
	denied := apiError("UnauthorizedOperation", "no")
	tests := []struct {
		name string
		errs []error
		want error
	}{
		{"trouble is borne", []error{throttled, errLost, throttled}, nil},
		{"what is final is not", []error{throttled, denied}, denied},
	}
	for _, tt := range tests {
		s := &source{errs: tt.errs, values: map[string]int{}}
		err := fastPoller(s).follow(t.Context(), "id", time.Millisecond, func(v int, _ bool) (bool, error) { return v == 2, nil })
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// One wait that ends does not disturb another, and a poller that nobody needs
// any more can be needed again.
func TestPollerGoesOn(t *testing.T) {
	s := &source{values: map[string]int{"never": -1}}
	p := fastPoller(s)
	ctx, stop := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- p.follow(ctx, "never", time.Millisecond, func(_ int, found bool) (bool, error) { return found, nil })
	}()
	until := func(n int) {
		if err := p.follow(t.Context(), "id", time.Millisecond, func(v int, _ bool) (bool, error) { return v >= n, nil }); err != nil {
			t.Error(err)
		}
	}
	until(5)
	stop(bakehouse.ErrStop)
	if err := <-ended; err != bakehouse.ErrStop {
		t.Errorf("%v, want the cause", err)
	}
	until(10)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		running := p.running
		p.mu.Unlock()
		if !running {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the poller runs although nobody waits")
		}
	}
	until(15)
}

func TestPolling(t *testing.T) {
	tests := []struct {
		name string
		p    *Polling
		env  map[string]string
		want patienceOf
	}{
		{"nothing is said", nil, nil, patienceOf{30 * time.Minute, 15 * time.Second}},
		{"attempts are 15 s apart", &Polling{MaxAttempts: 240}, nil, patienceOf{time.Hour, 15 * time.Second}},
		{"both", &Polling{MaxAttempts: 10, DelaySeconds: 60}, nil, patienceOf{10 * time.Minute, time.Minute}},
		{"a delay alone keeps the limit", &Polling{DelaySeconds: 60}, nil, patienceOf{30 * time.Minute, time.Minute}},
		{"environment", nil, map[string]string{"AWS_MAX_ATTEMPTS": "60", "AWS_POLL_DELAY_SECONDS": "2"}, patienceOf{2 * time.Minute, 2 * time.Second}},
		{"the template wins", &Polling{MaxAttempts: 4}, map[string]string{"AWS_MAX_ATTEMPTS": "60"}, patienceOf{time.Minute, 15 * time.Second}},
		{"total", nil, map[string]string{"AWS_TIMEOUT_SECONDS": "90"}, patienceOf{90 * time.Second, 15 * time.Second}},
		{"attempts beat the total", nil, map[string]string{"AWS_TIMEOUT_SECONDS": "90", "AWS_MAX_ATTEMPTS": "2"}, patienceOf{30 * time.Second, 15 * time.Second}},
		{"no number", nil, map[string]string{"AWS_MAX_ATTEMPTS": "many"}, patienceOf{30 * time.Minute, 15 * time.Second}},
	}
	for _, tt := range tests {
		c := Config{Getenv: func(k string) string { return tt.env[k] }}
		if diff := cmp.Diff(tt.want, c.polling(tt.p, imageLimit), cmp.AllowUnexported(patienceOf{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
