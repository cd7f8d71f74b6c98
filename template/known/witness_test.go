package known_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/bakehouse-farm/bakehouse/template/known"
)

// The witness is Debian's packer, 1.6.6, the last version that had all plugins
// inside. Started as one of them, it tells the arguments that it takes, over
// net/rpc with MessagePack in a yamux stream.

// cookie is what a plugin of Packer wants to see before it talks.
const cookie = "PACKER_PLUGIN_MAGIC_COOKIE=d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2"

func witness(t *testing.T) string {
	t.Helper()
	packer, err := exec.LookPath("packer")
	if err != nil {
		t.Skip("packer is not installed")
	}
	out, err := exec.CommandContext(t.Context(), packer, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out, []byte("v1.6.6")) {
		t.Skipf("packer is %s, not 1.6.6", bytes.TrimSpace(out))
	}
	return packer
}

// specOf asks packer for the arguments of a component.
func specOf(t *testing.T, packer string, ref known.Ref) objectSpec {
	t.Helper()
	spec, err := ask(t.Context(), packer, ref, t.TempDir())
	if err != nil {
		t.Fatalf("%s %s: %v", ref.Kind, ref.Type, err)
	}
	return spec
}

func ask(ctx context.Context, packer string, ref known.Ref, dir string) (_ objectSpec, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, packer, "plugin", "packer-"+string(ref.Kind)+"-"+ref.Type)
	cmd.Env = append(os.Environ(), cookie, "PACKER_CACHE_DIR="+dir, "TMPDIR="+dir, "HOME="+dir, "CHECKPOINT_DISABLE=1")
	cmd.WaitDelay = time.Second // packer has started itself once more
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	parts := strings.Split(strings.TrimSpace(line), "|") // 5|unix|/tmp/packer-plugin1
	if err != nil || len(parts) != 3 {
		return nil, fmt.Errorf("plugin said %q, %v", line, err)
	}
	conn, err := net.Dial(parts[1], parts[2])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	session, err := yamux.Client(conn, config)
	if err != nil {
		return nil, err
	}
	stream, err := session.Open()
	if err != nil {
		return nil, err
	}
	if err := stream.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if err := binary.Write(stream, binary.LittleEndian, uint32(0)); err != nil { // the first of packer's own streams
		return nil, err
	}
	var id uint32
	if err := binary.Read(stream, binary.LittleEndian, &id); err != nil || id != 0 {
		return nil, fmt.Errorf("stream %d was opened, %v", id, err)
	}
	return call(stream, map[known.Kind]string{
		known.Builder: "Builder", known.Provisioner: "Provisioner", known.PostProcessor: "PostProcessor",
	}[ref.Kind]+".ConfigSpec")
}

// call does one call without arguments whose result is {ConfigSpec: bytes}.
func call(stream io.ReadWriter, method string) (objectSpec, error) {
	request := new(bytes.Buffer)
	request.WriteByte(0x82) // a map of two
	for _, s := range []string{"ServiceMethod", method} {
		request.WriteByte(0xa0 | byte(len(s)))
		request.WriteString(s)
	}
	request.WriteString("\xa3Seq\x01\xc0") // the number of the call, and nil
	if _, err := stream.Write(request.Bytes()); err != nil {
		return nil, err
	}
	const mark = "\x81\xaaConfigSpec" // a map of one
	in := bufio.NewReader(stream)
	var seen []byte
	for !bytes.HasSuffix(seen, []byte(mark)) {
		b, err := in.ReadByte()
		if err != nil || len(seen) > 4096 {
			return nil, fmt.Errorf("answer %q, %v", seen, err)
		}
		seen = append(seen, b)
	}
	kind, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	width := map[byte]int{0xc4: 1, 0xc5: 2, 0xc6: 4, 0xd9: 1, 0xda: 2, 0xdb: 4}[kind] // bin or str
	if width == 0 {
		return nil, fmt.Errorf("unexpected type %#x in answer", kind)
	}
	length := make([]byte, 4)
	if _, err := io.ReadFull(in, length[4-width:]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint32(length))
	if _, err := io.ReadFull(in, raw); err != nil {
		return nil, err
	}
	return decodeSpec(raw)
}
