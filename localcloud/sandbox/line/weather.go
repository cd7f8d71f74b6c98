package line

import (
	"errors"
	"math/rand/v2"
	"time"
)

// A Weather is what a line does to packets, each way. The zero value is fair:
// all arrive, at once.
type Weather struct {
	// Loss is the percentage of packets that are lost, each by itself.
	Loss float64
	// Delay holds each packet back, by up to Jitter more or less. None overtakes
	// another.
	Delay, Jitter time.Duration
	// Rate is how many bytes pass in a second; zero: as many as come. Before it
	// waits what comes in half a second, or 32 KiB; what finds no room is lost.
	Rate uint64
}

// Check returns an error for what no weather can be.
func (w Weather) Check() error {
	switch {
	case !(w.Loss >= 0 && w.Loss <= 100): // NaN is neither
		return errors.New("loss is between 0 and 100 %")
	case w.Delay < 0, w.Jitter < 0:
		return errors.New("delay and jitter are not negative")
	}
	return nil
}

// loses draws whether the next packet is lost.
func (w Weather) loses() bool { return w.Loss > 0 && rand.Float64()*100 < w.Loss }

// holds draws how long the next packet is held back.
func (w Weather) holds() time.Duration {
	if w.Jitter <= 0 {
		return w.Delay
	}
	return max(0, w.Delay-w.Jitter+rand.N(2*w.Jitter+1))
}

// takes returns how long so many bytes take to pass.
func (w Weather) takes(bytes int) time.Duration {
	if w.Rate == 0 {
		return 0
	}
	return time.Duration(float64(bytes) / float64(w.Rate) * float64(time.Second))
}

// room is how many bytes may wait for their turn.
func (w Weather) room() int { return int(max(w.Rate/2, 32<<10)) }

// A Tally counts packets.
type Tally struct {
	// Carried have arrived; Lost were lost by chance; Full found no room.
	Carried, Lost, Full uint64
}
