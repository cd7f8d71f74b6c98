package guest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/sshd"
)

// grace is how long processes have between SIGTERM and SIGKILL.
const grace = 2 * time.Second

// Init is PID 1 of an instance. It never returns: it ends with one of the Exit
// codes when the instance is to end or to boot again.
func Init() {
	ignoreSignals()
	c, err := readConfig()
	if err != nil {
		report(err)
		os.Exit(ExitFailed)
	}
	i := &initProcess{config: c, reaper: newReaper(), log: logFile()}
	if err := i.serve(); err != nil {
		report(err)
		os.Exit(ExitFailed)
	}
	report := os.NewFile(ReportFD, "report")
	if _, err := report.WriteString(Ready); err != nil {
		i.log.Error("report", "error", err)
	}
	report.Close()
	go i.userData()
	i.lifeline()
}

type initProcess struct {
	config Config
	reaper *reaper
	log    *slog.Logger
	ending sync.Once
}

// ignoreSignals: the kernel protects PID 1 from signals without a handler, but
// Go's runtime has one for each, that ends the process.
func ignoreSignals() {
	c := make(chan os.Signal, 1)
	signal.Notify(c)
	go func() {
		for range c {
		}
	}()
}

func logFile() *slog.Logger {
	f, err := os.OpenFile(runDir+"/init.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(f, nil))
}

// serve listens for SSH and for the tools, and returns.
func (i *initProcess) serve() error {
	var signers []ssh.Signer
	for _, text := range i.config.HostKeys {
		s, err := ssh.ParsePrivateKey([]byte(text))
		if err != nil {
			return fmt.Errorf("host key: %w", err)
		}
		signers = append(signers, s)
	}
	for _, line := range i.config.Keys {
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err != nil {
			return fmt.Errorf("key %.40q: %w", line, err)
		}
	}
	l, err := net.Listen("tcp4", "0.0.0.0:22")
	if err != nil {
		return fmt.Errorf("listen for SSH: %w", err)
	}
	s := &sshd.Server{HostKeys: signers, Authorized: i.authorized, Start: i.login, OpenPTY: openPTY, Log: i.log}
	go s.Serve(l)

	old := unix.Umask(0o177)
	p, err := net.Listen("unix", powerSock)
	unix.Umask(old)
	if err != nil {
		return fmt.Errorf("listen for power requests: %w", err)
	}
	go i.power(p)
	return nil
}

// authorized returns the keys that may log in as the user; none for a user
// that the image does not have.
func (i *initProcess) authorized(name string) []ssh.PublicKey {
	u, err := lookUser("/", name)
	if err != nil {
		return nil
	}
	keys := parseKeys(strings.Join(i.config.Keys, "\n"))
	b, err := readInHome(u, ".ssh/authorized_keys")
	if err == nil {
		keys = append(keys, parseKeys(b)...)
	}
	return keys
}

// readInHome reads a file of the user's, with no more than a megabyte. As root
// we could be led to any file; but only its keys count, and the text is shown
// to nobody.
func readInHome(u user, name string) (string, error) {
	f, err := os.OpenFile(filepath.Join(u.home, name), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return string(b), err
}

func parseKeys(text string) []ssh.PublicKey {
	var keys []ssh.PublicKey
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// lifeline waits for what the shim has to say, or for its death.
func (i *initProcess) lifeline() {
	f := os.NewFile(LifelineFD, "lifeline")
	var b [1]byte
	n, err := f.Read(b[:])
	if n == 0 || err != nil {
		os.Exit(ExitStopped) // the kernel ends all others with us
	}
	i.end(ExitStopped)
	select {}
}

// end ends all processes, then this one, and so the instance.
func (i *initProcess) end(code int) {
	i.ending.Do(func() {
		if i.reaper.alone() {
			os.Exit(code)
		}
		_ = unix.Kill(-1, unix.SIGTERM)
		_ = unix.Kill(-1, unix.SIGCONT) // the stopped could not hear it
		for end := time.Now().Add(grace); time.Now().Before(end) && !i.reaper.alone(); {
			time.Sleep(2 * time.Millisecond)
		}
		_ = unix.Kill(-1, unix.SIGKILL)
		unix.Sync()
		os.Exit(code)
	})
}

// power hears the tools: a line with what is wanted, answered by "ok".
func (i *initProcess) power(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			i.log.Error("power", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go i.powerRequest(c.(*net.UnixConn))
	}
}

func (i *initProcess) powerRequest(c *net.UnixConn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	code := map[string]int{"reboot\n": ExitReboot, "poweroff\n": ExitPowerOff}[line]
	if code == 0 {
		fmt.Fprintf(c, "unknown request %q\n", line)
		return
	}
	fmt.Fprintln(c, "ok")
	c.Close()
	i.log.Info("power", "request", strings.TrimSpace(line))
	// A moment for who asked, to end and to be heard of.
	time.Sleep(50 * time.Millisecond)
	i.end(code)
}

// userData runs the instance's user data, if this is the boot for it.
func (i *initProcess) userData() {
	if len(i.config.UserData) == 0 {
		return
	}
	const dir = "/var/lib/cloud/instance"
	script := dir + "/user-data.txt"
	out, err := os.OpenFile("/var/log/cloud-init-output.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		i.log.Error("user data", "error", err)
		return
	}
	defer out.Close()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		fmt.Fprintf(out, "user data: %v\n", err)
		return
	}
	if err := os.WriteFile(script, i.config.UserData, 0o700); err != nil {
		fmt.Fprintf(out, "user data: %v\n", err)
		return
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		fmt.Fprintf(out, "user data: %v\n", err)
		return
	}
	defer null.Close()
	root := user{name: "root", home: "/root", shell: "/bin/sh"}
	if u, err := lookUser("/", "root"); err == nil {
		root = u
	}
	p, err := i.spawn(sessionRequest{
		Path: script, Argv: []string{script}, Env: root.env(), Dir: "/",
	}, [3]*os.File{null, out, out}, &syscall.SysProcAttr{Setsid: true})
	if err != nil {
		fmt.Fprintf(out, "user data: %v\n", err)
		return
	}
	if ws := p.Wait(); ws.ExitStatus() != 0 {
		fmt.Fprintf(out, "user data: exit status %d\n", ws.ExitStatus())
	}
	// What waits for cloud-init waits for this.
	if err := os.WriteFile(dir+"/boot-finished", []byte(time.Now().UTC().Format(time.RFC3339)+"\n"), 0o644); err != nil {
		i.log.Error("user data", "error", err)
	}
}

func jsonText(v any) string {
	if v == nil {
		return "{}\n"
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return "{}\n"
	}
	return string(b) + "\n"
}
