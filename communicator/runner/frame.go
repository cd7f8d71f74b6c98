package runner

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Magic precedes the frames of a runner's answer. What comes before it is the
// chatter of login scripts.
const Magic = "\x00\x01bakehouse-runner-1\n"

// A FrameKind says what a frame holds.
type FrameKind byte

// The kinds of frame. Every frame carries its length, so nothing that a command
// prints can look like one.
const (
	OutputFrame  FrameKind = 'o' // bytes of output
	StatusFrame  FrameKind = 's' // a Status in JSON
	AliveFrame   FrameKind = 'k' // nothing: the runner still follows
	ProblemFrame FrameKind = 'e' // text: why the runner cannot answer
)

// MaxFrame is the most that one frame holds.
const MaxFrame = 64 << 10

// maxChatter is how much login scripts may print before the answer begins.
const maxChatter = 256 << 10

// A Writer writes frames.
type Writer struct {
	w     io.Writer
	begun bool
	buf   []byte
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes one frame by one call of the underlying Write. data is at most
// MaxFrame bytes long.
func (w *Writer) Write(kind FrameKind, data []byte) error {
	if len(data) > MaxFrame {
		return fmt.Errorf("frame of %d bytes is too long", len(data))
	}
	w.buf = w.buf[:0]
	if !w.begun {
		w.buf = append(w.buf, Magic...)
		w.begun = true
	}
	w.buf = append(w.buf, byte(kind))
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(data)))
	w.buf = append(w.buf, data...)
	_, err := w.w.Write(w.buf)
	return err
}

// WriteStatus writes a StatusFrame.
func (w *Writer) WriteStatus(s Status) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return w.Write(StatusFrame, data)
}

// A Reader reads frames.
type Reader struct {
	r     io.Reader
	begun bool
	buf   []byte
}

// NewReader returns a Reader from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// ErrTooLong tells that a frame is longer than any that a Writer writes.
var ErrTooLong = errors.New("frame is too long")

// ErrNoAnswer tells that a stream ended before a runner said anything; Chatter
// is what was there instead, such as the shell's complaint.
type ErrNoAnswer struct{ Chatter string }

func (e *ErrNoAnswer) Error() string {
	if e.Chatter == "" {
		return "no answer from the runner"
	}
	return fmt.Sprintf("no answer from the runner, but %q", e.Chatter)
}

// Read returns the next frame. Its data is valid until the next call. At the
// end of the stream it returns io.EOF, within a frame io.ErrUnexpectedEOF,
// before the first an *ErrNoAnswer.
func (r *Reader) Read() (FrameKind, []byte, error) {
	if !r.begun {
		if err := r.skip(); err != nil {
			return 0, nil, err
		}
		r.begun = true
	}
	var head [5]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxFrame {
		return 0, nil, fmt.Errorf("%w: it has %d bytes", ErrTooLong, n)
	}
	if int(n) > cap(r.buf) {
		r.buf = make([]byte, n, MaxFrame)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return FrameKind(head[0]), r.buf, nil
}

// skip reads up to and with Magic.
func (r *Reader) skip() error {
	var seen []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(seen, []byte(Magic)) {
		if len(seen) > maxChatter {
			return &ErrNoAnswer{Chatter: string(seen[:200])}
		}
		if _, err := io.ReadFull(r.r, one); err != nil {
			if errors.Is(err, io.EOF) {
				return &ErrNoAnswer{Chatter: string(seen[max(0, len(seen)-500):])}
			}
			return err
		}
		seen = append(seen, one[0])
	}
	return nil
}
