package topology

import (
	"bytes"
	"errors"
	"io"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/conec-go/conec/messages"
	"github.com/conec-go/conec/sim"
)

// Parse reads a topology file. Its name is for errors, which tell all that is
// wrong at once: each is an [*Error], joined in the order of the file.
func Parse(file string, data []byte) (*Topology, error) {
	r := &reader{file: file}
	root := r.document(data)
	if root == nil {
		return nil, r.err()
	}
	p := &parser{
		reader: r, topology: &Topology{Duration: time.Minute, Settle: 30 * time.Second},
		lines: map[string]sim.Line{}, names: map[string]int{},
		gateways: newDirectory("gateway"), hosts: newDirectory("host or group"), traffic: newDirectory("traffic"),
	}
	p.file(value{r: r, at: root, line: max(root.Line, 1)})
	if err := r.err(); err != nil {
		return nil, err
	}
	return p.topology, nil
}

// document returns the one YAML document of a file, or nil.
func (r *reader) document(data []byte) *yaml.Node {
	whole := value{r: r, line: 1}
	if len(data) > maxFile {
		whole.fail("%d bytes; want at most %s", len(data), sizeText(maxFile))
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, next yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		whole.fail("is empty; see conec sim example")
		return nil
	case err != nil:
		r.failYAML(err)
		return nil
	}
	switch err := decoder.Decode(&next); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.failYAML(err)
		return nil
	default:
		value{r: r, line: max(next.Line, 1)}.fail("a second document; want one in a file")
		return nil
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) == 0 {
		whole.fail("is empty; see conec sim example")
		return nil
	}
	return document.Content[0]
}

// parser makes a topology. Sections are read in the order in which they need each
// other, wherever they are in the file.
type parser struct {
	*reader
	topology *Topology

	lines    map[string]sim.Line
	gateways *directory
	hosts    *directory
	traffic  *directory
	names    map[string]int // all names of hosts and gateways, with their lines
	flows    int
	sound    bool // all but the expectations is right
}

func (p *parser) file(root value) {
	t := p.topology
	t.Coordinator.Line = defaultLine
	section := root.object(fields{
		"about":    func(v value) { t.About, _ = v.word("a text") },
		"seed":     func(v value) { t.Seed = uint64(v.count(1, 1<<62)) },
		"duration": func(v value) { t.Duration = v.duration(time.Second, maxDuration) },
		"settle":   func(v value) { t.Settle = v.duration(0, maxSettle) },
		"lines":    nil, "coordinator": nil, "gateways": nil, "hosts": nil, "groups": nil, "traffic": nil, "faults": nil, "expect": nil,
	})
	for _, part := range []struct {
		name string
		read func(value)
	}{
		{"lines", p.readLines},
		{"coordinator", p.readCoordinator},
		{"gateways", p.readGateways},
		{"hosts", p.readHosts},
		{"groups", p.readGroups},
		{"traffic", p.readTraffic},
		{"faults", p.readFaults},
		{"expect", p.readExpectations},
	} {
		if v, ok := section[part.name]; ok {
			part.read(v)
		}
	}
	p.checkRoom(section)
	if len(t.Hosts) == 0 && len(p.errs) == 0 {
		root.fail("no clients; want hosts or groups")
	}
}

// claim takes a name for a host or gateway.
func (p *parser) claim(v value, name string) bool {
	if err := messages.CheckName(name); err != nil {
		v.fail("%v", err)
		return false
	}
	switch line, taken := p.names[name]; {
	case name == internet, name == coordinator, name == all:
		v.fail("the name %s has a meaning of its own; want another", name)
	case taken:
		v.fail("the name %s is taken, in line %d; want one that no other host, group or gateway has", name, line)
	default:
		p.names[name] = v.line
		return true
	}
	return false
}

// within reads a time of the run.
func (p *parser) within(v value) time.Duration { return v.duration(0, p.topology.Duration) }
