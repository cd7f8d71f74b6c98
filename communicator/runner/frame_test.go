package runner

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// Output that looks like frames stays output.
func TestFramesCarryAnything(t *testing.T) {
	var inner bytes.Buffer
	fake := NewWriter(&inner)
	if err := fake.WriteStatus(Status{State: Done, Result: &Result{}}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, chatter, out string }{
		{"plain", "", "hello\n"},
		{"empty", "", ""},
		{"chatter", "Welcome!\n\x00\x01bakehouse", "x"},
		{"fake frames", "", inner.String()},
		{"longest", "", strings.Repeat("\xff", MaxFrame)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var buf bytes.Buffer
			buf.WriteString(tt.chatter)
			w := NewWriter(&buf)
			if err := w.Write(OutputFrame, []byte(tt.out)); err != nil {
				t.Fatal(err)
			}
			if err := w.Write(AliveFrame, nil); err != nil {
				t.Fatal(err)
			}
			r := NewReader(iotestOneByte{&buf})
			kind, data, err := r.Read()
			if err != nil || kind != OutputFrame || string(data) != tt.out {
				t.Fatalf("Read() = %q, %d bytes, %v", kind, len(data), err)
			}
			if kind, data, err = r.Read(); err != nil || kind != AliveFrame || len(data) != 0 {
				t.Fatalf("second Read() = %q, %q, %v", kind, data, err)
			}
			if _, _, err = r.Read(); !errors.Is(err, io.EOF) {
				t.Fatalf("at the end: %v", err)
			}
		})
	}
}

func TestReaderTellsWhatWasThereInstead(t *testing.T) {
	_, _, err := NewReader(strings.NewReader("sh: runner: not found\n")).Read()
	var none *ErrNoAnswer
	if !errors.As(err, &none) || !strings.Contains(none.Chatter, "not found") {
		t.Errorf("err = %v", err)
	}
	var buf bytes.Buffer
	if err := NewWriter(&buf).Write(OutputFrame, []byte("cut off")); err != nil {
		t.Fatal(err)
	}
	if _, _, err = NewReader(bytes.NewReader(buf.Bytes()[:buf.Len()-1])).Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("within a frame: %v", err)
	}
	if err := NewWriter(&buf).Write(OutputFrame, make([]byte, MaxFrame+1)); err == nil {
		t.Error("a frame that no Reader takes was written")
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "build-1.s0": true, "0": true, "": false, ".": false, "..": false, ".hidden": false,
		"a/b": false, "a b": false, "-f": false, "a\n": false, strings.Repeat("a", 201): false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %v", name, got)
		}
	}
}

// iotestOneByte gives one byte at a time.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return o.r.Read(p[:1])
}

// Whatever a machine sends, reading it ends, in bounded memory and without a
// panic.
func FuzzReader(f *testing.F) {
	var whole bytes.Buffer
	w := NewWriter(&whole)
	for _, err := range []error{w.WriteStatus(Status{State: Started}), w.Write(OutputFrame, []byte("x")), w.Write(AliveFrame, nil)} {
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Add(whole.Bytes())
	f.Add([]byte(Magic))
	f.Add([]byte("login\r\n" + Magic + "o\xff\xff\xff\xff"))
	f.Add([]byte(strings.Repeat("\x00\x01bakehouse", 100)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		read := 0
		for {
			_, p, err := r.Read()
			if err != nil {
				return
			}
			if read += len(p) + 5; len(p) > MaxFrame || read > len(data) {
				t.Fatalf("%d bytes were read of %d", read, len(data))
			}
		}
	})
}
