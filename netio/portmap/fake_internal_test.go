package portmap

import (
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	loopback = netip.MustParseAddr("127.0.0.1")
	inner    = netip.MustParseAddrPort("127.0.0.1:40123")
	outside  = netip.MustParseAddr("203.0.113.9")
)

// fake is a gateway on loopback that knows the protocols that a test gives it. What it was asked, and has mapped, is in
// its fields, which are the test's own but while it asks by mapPort or unmapPort.
type fake struct {
	t       *testing.T
	control *net.UDPConn
	search  *net.UDPConn
	web     *httptest.Server

	mu        sync.Mutex
	outside   netip.Addr
	lifetime  uint32            // that it grants, seconds
	taken     map[uint16]bool   // outer ports of others
	mapped    map[uint16]uint16 // outer -> inner
	owner     [nonceLength]byte // of a mapping by PCP
	asked     []string          // what was asked for
	leases    []string          // by UPnP
	answerPCP func(request, answer []byte) []byte
	answerPMP func(request, answer []byte) []byte
	found     func(answer string) string // SSDP's
	page      func(page string) string   // the description
	call      func(action string) string // answers a call, unless it returns ""
}

// newFake makes a gateway that answers nothing, and a mapper that knows it.
func newFake(t *testing.T) (*fake, *Mapper) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() { // after all else
		for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
			runtime.Gosched()
		}
		if left := runtime.NumGoroutine(); left > before {
			stacks := make([]byte, 64<<10)
			t.Errorf("%d goroutines, %d before:\n%s", left, before, stacks[:runtime.Stack(stacks, true)])
		}
	})
	f := &fake{t: t, outside: outside, lifetime: 3600, mapped: map[uint16]uint16{}, taken: map[uint16]bool{}}
	f.mu.Lock()
	f.control, f.search = f.serve(f.onControl), f.serve(f.onSearch)
	f.web = httptest.NewServer(http.HandlerFunc(f.onWeb))
	t.Cleanup(f.web.Close)
	m := New()
	m.gateway = func() (netip.Addr, error) { return loopback, nil }
	m.ways = ways{control: portOf(f.control), search: portOf(f.search), pause: 40 * time.Millisecond}
	t.Cleanup(f.mu.Unlock)
	return f, m
}

// mapPort has the gateway asked.
func (f *fake) mapPort(m *Mapper, inner netip.AddrPort) (Mapping, error) {
	f.mu.Unlock()
	defer f.mu.Lock()
	return m.Map(f.t.Context(), inner)
}

// unmapPort has the gateway asked.
func (f *fake) unmapPort(m *Mapper) error {
	f.mu.Unlock()
	defer f.mu.Lock()
	return m.Unmap(f.t.Context())
}

func portOf(conn *net.UDPConn) uint16 { return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// serve answers datagrams until the test ends.
func (f *fake) serve(answer func(request []byte) [][]byte) *net.UDPConn {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		f.t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			f.mu.Lock()
			answers := answer(buf[:n])
			f.mu.Unlock()
			for _, message := range answers {
				_, _ = conn.WriteToUDPAddrPort(message, from)
			}
		}
	})
	f.t.Cleanup(func() { conn.Close(); done.Wait() })
	return conn
}

// speaksPCP, speaksPMP and speaksUPnP have it do what it is asked.
func (f *fake) speaksPCP() { f.answerPCP = func(_, answer []byte) []byte { return answer } }
func (f *fake) speaksPMP() { f.answerPMP = func(_, answer []byte) []byte { return answer } }
func (f *fake) speaksUPnP() {
	f.found = func(answer string) string { return answer }
	f.page = func(page string) string { return page }
	f.call = func(string) string { return "" }
}

// outer finds an outer port: that one, or the next that is free.
func (f *fake) outer(port uint16) uint16 {
	for f.taken[port] {
		port++
	}
	return port
}

func (f *fake) onControl(request []byte) [][]byte {
	switch {
	case len(request) == pcpMapLength && request[0] == pcpVersion && f.answerPCP != nil:
		if answer := f.answerPCP(request, f.pcp(request)); answer != nil {
			return [][]byte{answer}
		}
	case request[0] == pcpVersion && f.answerPMP != nil: // RFC 6886 section 9
		return [][]byte{{0, request[1] | pmpResponse, 0, 1, 0, 0, 0, 9}}
	case request[0] == pmpVersion && f.answerPMP != nil:
		if answer := f.answerPMP(request, f.pmp(request)); answer != nil {
			return [][]byte{answer}
		}
	}
	return nil
}

// pcp does what a MAP request says.
func (f *fake) pcp(request []byte) []byte {
	lifetime, in := binary.BigEndian.Uint32(request[4:]), binary.BigEndian.Uint16(request[40:])
	port := f.outer(binary.BigEndian.Uint16(request[42:]))
	f.asked = append(f.asked, fmt.Sprintf("PCP %d", lifetime))
	answer := append([]byte(nil), request...)
	answer[1] |= pcpResponse
	answer[3] = 0
	copy(answer[8:24], make([]byte, 16))
	if len(f.mapped) > 0 && [nonceLength]byte(request[24:36]) != f.owner {
		answer[3] = 2
		return answer
	}
	f.owner = [nonceLength]byte(request[24:36])
	f.mapped = map[uint16]uint16{}
	if lifetime > 0 {
		f.mapped[port] = in
		binary.BigEndian.PutUint32(answer[4:], f.lifetime)
	}
	binary.BigEndian.PutUint16(answer[42:], port)
	copy(answer[44:], appendMapped(nil, f.outside))
	return answer
}

// pmp does what a NAT-PMP request says.
func (f *fake) pmp(request []byte) []byte {
	answer := []byte{0, request[1] | pmpResponse, 0, 0, 0, 0, 0, 9}
	if request[1] == pmpAddress {
		addr := f.outside.As4()
		return append(answer, addr[:]...)
	}
	in, lifetime := binary.BigEndian.Uint16(request[4:]), binary.BigEndian.Uint32(request[8:])
	port := f.outer(binary.BigEndian.Uint16(request[6:]))
	f.asked = append(f.asked, fmt.Sprintf("NAT-PMP %d", lifetime))
	f.mapped = map[uint16]uint16{}
	if lifetime > 0 {
		f.mapped[port] = in
		lifetime = f.lifetime
	}
	answer = append(answer, request[4:6]...)
	answer = binary.BigEndian.AppendUint16(answer, port)
	return binary.BigEndian.AppendUint32(answer, lifetime)
}

func (f *fake) onSearch(request []byte) [][]byte {
	if f.found == nil || !strings.Contains(string(request), "InternetGatewayDevice:1") {
		return nil
	}
	f.asked = append(f.asked, "search")
	answer := f.found("HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nUSN: uuid:x\r\nLOCATION: " + f.web.URL + "/root.xml\r\n\r\n")
	return [][]byte{[]byte("what is this"), []byte(answer)}
}

const description = `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device><deviceList><device><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/control</controlURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>`

func (f *fake) onWeb(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path == "/root.xml" {
		_, _ = io.WriteString(w, f.page(description))
		return
	}
	_, action, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPACTION"), `"`), "#")
	answer := f.call(action)
	if answer == "" {
		answer = f.soap(action, body)
	}
	if strings.Contains(answer, "Fault") {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = fmt.Fprintf(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s</s:Body></s:Envelope>`, answer)
}

// soap does what a call says.
func (f *fake) soap(action string, body []byte) string {
	var call struct {
		Outer uint16 `xml:"Body>AddPortMapping>NewExternalPort"`
		Inner uint16 `xml:"Body>AddPortMapping>NewInternalPort"`
		Lease string `xml:"Body>AddPortMapping>NewLeaseDuration"`
		Gone  uint16 `xml:"Body>DeletePortMapping>NewExternalPort"`
	}
	if err := xml.Unmarshal(body, &call); err != nil {
		f.t.Errorf("%s: %v", body, err)
	}
	f.asked = append(f.asked, action)
	result := ""
	switch {
	case action == "GetExternalIPAddress":
		result = "<NewExternalIPAddress>" + f.outside.String() + "</NewExternalIPAddress>"
	case action == "DeletePortMapping":
		delete(f.mapped, call.Gone)
	case f.taken[call.Outer]:
		return soapFault(conflict)
	default:
		f.mapped[call.Outer] = call.Inner
		f.leases = append(f.leases, call.Lease)
	}
	return fmt.Sprintf(`<u:%sResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">%s</u:%[1]sResponse>`, action, result)
}

func soapFault(code int) string {
	return fmt.Sprintf("<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError><errorCode>%d</errorCode></UPnPError></detail></s:Fault>", code)
}
