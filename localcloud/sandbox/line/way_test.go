package line

import (
	"testing"
	"time"
)

// What becomes of packets that all come at once: when the last is due, and how
// many found no room.
func TestTake(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name         string
		weather      Weather
		packets, big int
		first, last  time.Duration
		full         uint64
	}{
		{"fair", Weather{}, 100, 1000, 0, 0, 0},
		{"delay", Weather{Delay: s}, 100, 1000, s, s, 0},
		{"rate", Weather{Rate: 100_000}, 50, 1000, s / 100, s / 2, 0},
		{"rate and delay", Weather{Rate: 100_000, Delay: s}, 50, 1000, s + s/100, s + s/2, 0},
		{"just room", Weather{Rate: 100_000}, 51, 1000, s / 100, s / 2, 1},
		{"no room", Weather{Rate: 100_000}, 90, 1000, s / 100, s / 2, 40},
		{"least room", Weather{Rate: 1024}, 40, 1024, s, 32 * s, 8},
		{"bigger than the room", Weather{Rate: 1000}, 2, 64_000, 64 * s, 64 * s, 1},
		{"more than is held", Weather{Delay: s}, 40, 1 << 20, s, s, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWay(nil, nil, tt.weather)
			now := time.Now()
			for range tt.packets {
				w.take(make([]byte, tt.big), now)
			}
			if n := tt.packets - int(tt.full); len(w.held) != n || w.told().Full != tt.full || w.told().Lost != 0 {
				t.Fatalf("%d held, %+v; want %d held", len(w.held), w.told(), n)
			}
			first, last := w.held[0].due.Sub(now), w.held[len(w.held)-1].due.Sub(now)
			if near(first, tt.first) && near(last, tt.last) {
				return
			}
			t.Errorf("due from %s to %s, want from %s to %s", first, last, tt.first, tt.last)
		})
	}
}

// near forgives what floating point cannot say.
func near(a, b time.Duration) bool { return (a - b).Abs() < time.Microsecond }

// Packets keep their order, whatever jitter draws and however the weather turns;
// none is early.
func TestOrder(t *testing.T) {
	w := newWay(nil, nil, Weather{Delay: 50 * time.Millisecond, Jitter: 80 * time.Millisecond})
	now := time.Now()
	for n := range 200 {
		if n == 100 {
			w.set(Weather{})
		}
		w.take([]byte{byte(n)}, now.Add(time.Duration(n)*time.Microsecond))
	}
	spread := map[time.Time]bool{}
	for n, p := range w.held {
		if p.data[0] != byte(n) {
			t.Fatalf("packet %d is number %d", p.data[0], n)
		}
		if n > 0 && p.due.Before(w.held[n-1].due) {
			t.Errorf("packet %d overtakes", n)
		}
		if p.due.Before(now.Add(time.Duration(n) * time.Microsecond)) {
			t.Errorf("packet %d is due before it came", n)
		}
		spread[p.due] = true
	}
	if len(spread) < 2 {
		t.Error("all are due at once: no jitter")
	}
	due := w.held[0].due
	if data, wait := w.next(due.Add(-time.Millisecond)); data != nil || wait != time.Millisecond {
		t.Errorf("a millisecond early: %d bytes, wait %s", len(data), wait)
	}
	if data, _ := w.next(due); len(data) != 1 || data[0] != 0 {
		t.Errorf("when it is due: %v", data)
	}
}

// Loss is as frequent as it says.
func TestLoss(t *testing.T) {
	for _, tt := range []struct {
		loss        float64
		least, most uint64
	}{
		{0, 0, 0},
		{100, 10_000, 10_000},
		{30, 2_600, 3_400}, // 8 standard deviations
	} {
		w := newWay(nil, nil, Weather{Loss: tt.loss})
		for range 10_000 {
			w.take([]byte{1}, time.Now())
		}
		if n := w.told().Lost; n < tt.least || n > tt.most {
			t.Errorf("lost %d of 10000 at %g %%", n, tt.loss)
		}
	}
}
