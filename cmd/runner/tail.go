//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/bakehouse-farm/bakehouse/communicator/runner"
)

const (
	// aliveEvery is how often an idle tail says that it is there. It also finds
	// out that nobody listens any more.
	aliveEvery = 10 * time.Second
	// checkEvery is how often an idle tail looks whether the supervisor lives.
	checkEvery = time.Second
)

// tail sends the output from byte o.from on, until the command has ended and
// all of it is sent; then the status.
func tail(o order, answer *runner.Writer) error {
	f, err := openFolder(o)
	if err != nil {
		return err
	}
	log, err := f.open("log", os.O_RDONLY)
	if err != nil {
		return err
	}
	defer log.Close()
	w := newWatch(f.path)
	defer w.close()
	spoke, touched := time.Now(), time.Now()
	buf := make([]byte, 32<<10)
	for offset := o.from; ; {
		// Ask for the status before reading: then nothing of a command that has
		// ended is missed.
		status, err := f.status()
		if err != nil {
			return err
		}
		limit := int64(1<<63 - 1)
		if status.State == runner.Done {
			limit = status.Result.LogBytes
		}
		for offset < limit {
			n, err := log.ReadAt(buf[:min(int64(len(buf)), limit-offset)], offset)
			if n > 0 {
				if err := answer.Write(runner.OutputFrame, buf[:n]); err != nil {
					return err
				}
				offset += int64(n)
				spoke = time.Now()
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if n == 0 {
				break
			}
		}
		if info, err := log.Stat(); err == nil && info.Size() < offset {
			return fmt.Errorf("the log holds %d bytes, but %d were there before: somebody has cut it short", info.Size(), offset)
		}
		switch status.State {
		case runner.Done:
			if offset < limit {
				return fmt.Errorf("the log holds %d bytes, but the command wrote %d", offset, limit)
			}
			return answer.WriteStatus(status)
		case runner.None, runner.Lost, runner.Rebooted:
			return answer.WriteStatus(status)
		}
		if time.Since(spoke) >= aliveEvery {
			if err := answer.Write(runner.AliveFrame, nil); err != nil {
				return err
			}
			spoke = time.Now()
		}
		if time.Since(touched) >= aliveEvery {
			touch(o)
			touched = time.Now()
		}
		w.wait(checkEvery)
	}
}
