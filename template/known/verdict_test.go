package known_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/known"
)

var exhaustive = flag.Bool("exhaustive", false, "leave out each argument of testdata/minimal.txt in turn, which takes minutes")

// Where packer 1.6.6 cannot be compared with, and why.
var incomparable = map[string]string{
	"builder hyperv-vmcx": "it crashes where there is no Hyper-V",
	"builder openstack":   "it asks the network",
	"builder triton":      "it wants a key that fits a fingerprint",
}

// kitchen is a folder with the files that testdata/minimal.txt names, and with
// tools on its path that some plugins look for.
func kitchen(t *testing.T) (dir string, components []txtar.File) {
	t.Helper()
	a, err := txtar.ParseFile("testdata/minimal.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for name, text := range map[string]string{
		"here.sh": "true\n", "key.pem": key(t), "dir/x": "",
		"bin/ansible-playbook": "#!/bin/sh\necho ansible-playbook 2.9.6\n",
		"bin/inspec":           "#!/bin/sh\necho 4.0.0\n",
		"bin/ovftool":          "#!/bin/sh\n",
		"bin/VBoxManage":       "#!/bin/sh\necho 6.1.0\n",
		"bin/prlctl":           "#!/bin/sh\necho prlctl version 16.0.0\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	t.Setenv("SSH_AUTH_SOCK", "")
	return dir, a.Files
}

func key(t *testing.T) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}))
}

// ours is our verdict on a template, on a farm that can run nothing.
func ours(t *testing.T, dir, text string) (ok bool, said string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a.pkr.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tpl, diags := template.Load(file, bakehouse.Files{Cwd: dir, Home: dir}, template.Catalogue{})
	values, more := tpl.Variables(template.Inputs{})
	diags = append(diags, more...)
	diags = append(diags, tpl.Check(values, template.Selection{}, template.Pinned{Time: time.Unix(1700000000, 0), Seed: "s"})...)
	var b strings.Builder
	template.WriteDiagnostics(&b, diags, tpl, false, 0)
	return !diags.HasErrors(), b.String()
}

// Packer and we come to the same verdict on the least that each component
// takes, and on nothing at all.
func TestSameVerdictAsPacker(t *testing.T) {
	packer := witness(t)
	dir, components := kitchen(t)
	// All that is right is asked about at once: packer takes long to start.
	whole := everything(components, func(name string) bool { return incomparable[name] == "" })
	if ok, why := validateIn(t, packer, dir, whole); !ok {
		t.Errorf("packer rejects what is right:\n%s", why)
	}
	if ok, why := ours(t, dir, everything(components, func(string) bool { return true })); !ok {
		t.Errorf("we reject what is right:\n%s", why)
	}
	for _, c := range components {
		t.Run(c.Name, func(t *testing.T) {
			ref := refOf(c.Name)
			bodies := map[string]string{"nothing": ""}
			if *exhaustive && incomparable[c.Name] == "" {
				items := itemsOf(string(c.Data))
				bodies["everything"] = string(c.Data)
				for i, item := range items {
					bodies["all but "+strings.TrimSpace(item)] = strings.Join(append(append([]string{}, items[:i]...), items[i+1:]...), "")
				}
			}
			for what, body := range bodies {
				text := using(ref, body)
				good, said := ours(t, dir, text)
				theirs, why := validateIn(t, packer, dir, text)
				if good != theirs {
					t.Errorf("%s: ours %v, packer's %v\nours: %s\npacker: %s", what, good, theirs, said, why)
				}
			}
		})
	}
}

func refOf(name string) known.Ref {
	kind, typ, _ := strings.Cut(name, " ")
	return known.Ref{Kind: known.Kind(kind), Type: typ}
}

// everything is a template that uses all components that are wanted.
func everything(components []txtar.File, wanted func(name string) bool) string {
	var sources, parts, blocks strings.Builder
	for _, c := range components {
		ref := refOf(c.Name)
		switch {
		case !wanted(c.Name):
		case ref.Kind == known.Builder:
			fmt.Fprintf(&blocks, "source %q \"a\" {\n%s}\n", ref.Type, c.Data)
			fmt.Fprintf(&sources, "    \"source.%s.a\",\n", ref.Type)
		default:
			fmt.Fprintf(&parts, "  %s %q {\n%s}\n", ref.Kind, ref.Type, c.Data)
		}
	}
	return fmt.Sprintf("%ssource \"null\" \"b\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\n%s  ]\n}\nbuild {\n  sources = [\"source.null.b\"]\n%s}\n", blocks.String(), sources.String(), parts.String())
}

// Every component that packer 1.6.6 can be asked about has been.
func TestEveryComponentHasAnExample(t *testing.T) {
	packer := witness(t)
	_, components := kitchen(t)
	have := map[string]bool{}
	for _, c := range components {
		have[c.Name] = true
	}
	// These do not work in packer 1.6.6 as Debian has it, or need the network.
	broken := map[string]bool{
		"builder azure-chroot": true, "builder azure-dtl": true, "builder jdcloud": true, "builder oneandone": true,
		"builder profitbricks": true, "provisioner sleep": true, "post-processor vagrant-cloud": true,
		"builder amazon-ebs": true, // we have that ourselves
	}
	for _, ref := range componentsOf(t, packer) {
		name := fmt.Sprintf("%s %s", ref.Kind, ref.Type)
		if !have[name] && !broken[name] {
			t.Errorf("testdata/minimal.txt has no %s", name)
		}
	}
}

// itemsOf splits a body into arguments and blocks.
func itemsOf(body string) []string {
	var list []string
	var item string
	depth := 0
	for line := range strings.Lines(body) {
		item += line
		depth += strings.Count(line, "{") - strings.Count(line, "}")
		if depth == 0 {
			list = append(list, item)
			item = ""
		}
	}
	return list
}
