package netio

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxSegments = 64    // UDP_MAX_SEGMENTS of the kernels that know UDP_SEGMENT
	maxPayload  = 65507 // largest UDP payload over IPv4
	oobSize     = 192   // room for GRO, TOS, TCLASS and PKTINFO of both families
)

// socket is what reading and writing one UDP socket with recvmsg and sendmsg needs. The kernel allows concurrent
// sendmsg calls, so writers do not wait for each other unless the socket's buffer is full.
type socket struct {
	raw     syscall.RawConn
	is6     bool
	noGSO   atomic.Bool // the kernel refused UDP_SEGMENT once
	reader  udpReader
	writers sync.Pool // of *udpWriter
}

// open prepares the socket: GRO, ECN and don't-fragment bits, and for a socket bound to no address also the local one.
func (s *socket) open(conn *net.UDPConn, local netip.AddrPort) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	s.raw = raw
	s.reader.init()
	s.writers.New = func() any { return newUDPWriter() }
	return raw.Control(func(fd uintptr) {
		f := int(fd)
		if sa, err := unix.Getsockname(f); err == nil {
			_, s.is6 = sa.(*unix.SockaddrInet6)
		}
		// Each of these may be missing; what is lost is speed, ECN or MTU discovery.
		_ = unix.SetsockoptInt(f, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
		_ = unix.SetsockoptInt(f, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
		_ = unix.SetsockoptInt(f, unix.SOL_UDP, unix.UDP_GRO, 1)
		_ = unix.SetsockoptInt(f, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
		_ = unix.SetsockoptInt(f, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		if s.is6 {
			_ = unix.SetsockoptInt(f, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
			_ = unix.SetsockoptInt(f, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		}
		if local.Addr().IsUnspecified() {
			_ = unix.SetsockoptInt(f, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			if s.is6 {
				_ = unix.SetsockoptInt(f, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
		}
		_, gsoErr := unix.GetsockoptInt(f, unix.SOL_UDP, unix.UDP_SEGMENT)
		s.noGSO.Store(gsoErr != nil)
	})
}

// udpReader is the state of the one reading goroutine, kept so that a read allocates nothing.
type udpReader struct {
	hdr   unix.Msghdr
	iov   unix.Iovec
	name  unix.RawSockaddrInet6
	oob   [oobSize]byte
	n     int
	errno syscall.Errno
	recv  func(fd uintptr) bool
	batch *Batch // being read

	buffers sync.Pool // of *[MaxBatch]byte
	zone    string    // of zoneID
	scope   uint32
}

func (r *udpReader) init() {
	r.hdr.Name = (*byte)(unsafe.Pointer(&r.name))
	r.hdr.Iov = &r.iov
	r.hdr.SetIovlen(1)
	r.hdr.Control = &r.oob[0]
	r.recv = func(fd uintptr) bool {
		r.open()
		for {
			r.hdr.Namelen = unix.SizeofSockaddrInet6
			r.hdr.SetControllen(oobSize)
			n, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.hdr)), unix.MSG_DONTWAIT)
			r.n, r.errno = int(n), errno
			switch errno {
			case unix.EINTR:
			case unix.EAGAIN:
				r.close()
				return false
			default:
				return true
			}
		}
	}
}

// open gives the batch a buffer, if it has none.
func (r *udpReader) open() {
	if len(r.batch.Buf) < MaxBatch {
		buffer, ok := r.buffers.Get().(*[MaxBatch]byte)
		if !ok {
			buffer = new([MaxBatch]byte)
		}
		r.batch.Buf = buffer[:]
	}
	r.iov.Base = &r.batch.Buf[0]
	r.iov.SetLen(len(r.batch.Buf))
}

// close takes the buffer back while there is nothing to read: an idle socket holds none for long.
func (r *udpReader) close() {
	r.buffers.Put((*[MaxBatch]byte)(r.batch.Buf))
	r.batch.Buf, r.iov.Base = nil, nil
}

// Read waits for datagrams; see [Link].
func (l *UDPLink) Read(b *Batch) error {
	r := &l.sock.reader
	r.batch = b
	for range maxReadErrors {
		if err := l.sock.raw.Read(r.recv); err != nil {
			if isTimeout(err) {
				return os.ErrDeadlineExceeded
			}
			return net.ErrClosed
		}
		if r.errno != 0 {
			continue // an error of an earlier send, or no memory just now
		}
		b.N, b.Segment, b.ECN, b.Local = r.n, r.n, 0, netip.Addr{}
		b.From = r.from()
		r.control(b)
		if b.Segment <= 0 {
			b.Segment = max(b.N, 1)
		}
		return nil
	}
	return net.ErrClosed
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// from is the sender's address.
func (r *udpReader) from() netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&r.name.Port))[:])
	if r.name.Family == unix.AF_INET {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&r.name))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), port)
	}
	ip := netip.AddrFrom16(r.name.Addr).Unmap()
	if r.name.Scope_id != 0 && ip.IsLinkLocalUnicast() {
		if r.scope != r.name.Scope_id {
			r.scope, r.zone = r.name.Scope_id, strconv.FormatUint(uint64(r.name.Scope_id), 10)
		}
		ip = ip.WithZone(r.zone)
	}
	return netip.AddrPortFrom(ip, port)
}

// control reads the control messages of the last recvmsg: segment size, ECN bits, local address.
func (r *udpReader) control(b *Batch) {
	oob := r.oob[:min(int(r.hdr.Controllen), oobSize)]
	for len(oob) >= unix.SizeofCmsghdr {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		oob = rest
		switch {
		case hdr.Level == unix.SOL_UDP && hdr.Type == unix.UDP_GRO && len(data) >= 2:
			b.Segment = int(binary.NativeEndian.Uint16(data))
			if len(data) >= 4 {
				b.Segment = int(binary.NativeEndian.Uint32(data))
			}
		case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_TOS && len(data) >= 1:
			b.ECN = data[0] & ecnMask
		case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_TCLASS && len(data) >= 4:
			b.ECN = uint8(binary.NativeEndian.Uint32(data)) & ecnMask
		case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= 12:
			b.Local = netip.AddrFrom4([4]byte(data[8:12]))
		case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_PKTINFO && len(data) >= 16:
			b.Local = netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
	}
}

// udpWriter is the state of one write, pooled so that a write allocates nothing.
type udpWriter struct {
	hdr     unix.Msghdr
	iov     unix.Iovec
	name    unix.RawSockaddrInet6
	oob     [oobSize]byte
	oobLen  int
	scratch []byte
	errno   syscall.Errno
	try     func(fd uintptr)
	send    func(fd uintptr) bool
}

func newUDPWriter() *udpWriter {
	w := &udpWriter{}
	w.hdr.Name = (*byte)(unsafe.Pointer(&w.name))
	w.hdr.Iov = &w.iov
	w.hdr.SetIovlen(1)
	w.try = func(fd uintptr) {
		for {
			_, _, w.errno = unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&w.hdr)), unix.MSG_DONTWAIT)
			if w.errno != unix.EINTR {
				return
			}
		}
	}
	w.send = func(fd uintptr) bool {
		w.try(fd)
		return w.errno != unix.EAGAIN
	}
	return w
}

// Write sends datagrams, in as few system calls as possible; see [Link].
func (l *UDPLink) Write(to netip.AddrPort, p Packets, wait bool) error {
	s := &l.sock
	w := s.writers.Get().(*udpWriter)
	defer s.writers.Put(w)
	if !w.address(to, s.is6) {
		return unix.EAFNOSUPPORT
	}
	segment := p.Segment
	if segment <= 0 || segment > len(p.Data) {
		segment = max(len(p.Data), 1)
	}
	perCall := 1
	if !s.noGSO.Load() {
		perCall = max(1, min(maxSegments, maxPayload/(segment+len(p.Header))))
	}
	var first error
	for data := p.Data; ; {
		chunk := data[:min(len(data), perCall*segment)]
		err := s.writeChunk(w, p, chunk, segment, wait)
		if err == unix.EIO || err == unix.EINVAL { //nolint:errorlint // Errno as it came from the kernel
			// EIO: no checksum offload, so no segmentation ever. EINVAL: segment larger than the MTU, this time.
			if err == unix.EIO && len(chunk) > segment { //nolint:errorlint // as above
				s.noGSO.Store(true)
			}
			if len(chunk) > segment {
				perCall = 1
				continue
			}
		}
		if err != nil && first == nil {
			first = err
		}
		if data = data[len(chunk):]; len(data) == 0 {
			return first
		}
	}
}

// writeChunk sends what one system call can take.
func (s *socket) writeChunk(w *udpWriter, p Packets, chunk []byte, segment int, wait bool) error {
	w.oobLen = 0
	if p.ECN != 0 {
		w.appendECN(p.ECN)
	}
	if p.Local.IsValid() {
		w.appendLocal(p.Local)
	}
	if len(chunk) > segment {
		binary.NativeEndian.PutUint16(w.appendControl(unix.SOL_UDP, unix.UDP_SEGMENT, 2), uint16(segment+len(p.Header)))
	}
	w.payload(p.Header, chunk, segment)
	w.hdr.Control = nil
	if w.oobLen > 0 {
		w.hdr.Control = &w.oob[0]
	}
	w.hdr.SetControllen(w.oobLen)
	// Control takes no lock, unlike Write, so that nobody waits behind a writer that waits.
	err := s.raw.Control(w.try)
	if err == nil && w.errno == unix.EPERM {
		err = s.raw.Control(w.try) // the first sendmsg of a socket fails sometimes: https://go.dev/issue/63322
	}
	if err == nil && wait && w.errno == unix.EAGAIN {
		err = s.raw.Write(w.send)
	}
	w.iov.Base = nil
	if err != nil {
		return net.ErrClosed
	}
	if w.errno != 0 {
		return w.errno
	}
	return nil
}

// payload points the message at the chunk, copied so that the header stands before each segment. Copying measured
// faster than two iovecs per segment.
func (w *udpWriter) payload(header, chunk []byte, segment int) {
	if len(header) > 0 {
		b := w.scratch[:0]
		for {
			n := min(segment, len(chunk))
			b = append(b, header...)
			b = append(b, chunk[:n]...)
			if chunk = chunk[n:]; len(chunk) == 0 {
				break
			}
		}
		w.scratch, chunk = b, b
	}
	w.iov.Base = unsafe.SliceData(chunk)
	w.iov.SetLen(len(chunk))
}

// address sets the destination, as the family of the socket wants it.
func (w *udpWriter) address(to netip.AddrPort, is6 bool) bool {
	ip := to.Addr()
	if !ip.IsValid() || (!is6 && !ip.Unmap().Is4()) {
		return false
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&w.name.Port))[:], to.Port())
	if !is6 {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&w.name))
		sa.Family, sa.Addr = unix.AF_INET, ip.Unmap().As4()
		w.hdr.Namelen = unix.SizeofSockaddrInet4
		return true
	}
	w.name.Family, w.name.Addr, w.name.Flowinfo = unix.AF_INET6, ip.As16(), 0
	w.name.Scope_id = zoneIndex(ip.Zone())
	w.hdr.Namelen = unix.SizeofSockaddrInet6
	return true
}

// isIPv4 says whether the destination that address set is an IPv4 one.
func (w *udpWriter) isIPv4() bool {
	return w.name.Family == unix.AF_INET || netip.AddrFrom16(w.name.Addr).Is4In6()
}

func (w *udpWriter) appendECN(ecn uint8) {
	if w.isIPv4() {
		binary.NativeEndian.PutUint32(w.appendControl(unix.IPPROTO_IP, unix.IP_TOS, 4), uint32(ecn))
		return
	}
	binary.NativeEndian.PutUint32(w.appendControl(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4), uint32(ecn))
}

func (w *udpWriter) appendLocal(local netip.Addr) {
	local = local.Unmap()
	if w.isIPv4() != local.Is4() {
		return
	}
	if local.Is4() {
		ip := local.As4()
		copy(w.appendControl(unix.IPPROTO_IP, unix.IP_PKTINFO, 12)[4:8], ip[:])
		return
	}
	ip := local.As16()
	copy(w.appendControl(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, 20), ip[:])
}

// appendControl adds a control message with n zero bytes and returns those for the caller to fill in.
func (w *udpWriter) appendControl(level, kind int32, n int) []byte {
	msg := w.oob[w.oobLen : w.oobLen+unix.CmsgSpace(n)]
	w.oobLen += len(msg)
	return putControl(msg, level, kind, n)
}

func putControl(msg []byte, level, kind int32, n int) []byte {
	clear(msg)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&msg[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(n))
	return msg[unix.CmsgLen(0):][:n]
}

// parseOOB reads what quic-go writes as control messages: the segment size and the ECN bits.
func parseOOB(oob []byte) (segment int, ecn uint8) {
	for len(oob) >= unix.SizeofCmsghdr {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return segment, ecn
		}
		oob = rest
		switch {
		case hdr.Level == unix.SOL_UDP && hdr.Type == unix.UDP_SEGMENT && len(data) >= 2:
			segment = int(binary.NativeEndian.Uint16(data))
		case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_TOS && len(data) >= 1:
			ecn = controlECN(data)
		case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_TCLASS && len(data) >= 1:
			ecn = controlECN(data)
		}
	}
	return segment, ecn
}

// controlECN reads a TOS or traffic class, which is a byte or an int.
func controlECN(data []byte) uint8 {
	if len(data) >= 4 {
		return uint8(binary.NativeEndian.Uint32(data)) & ecnMask
	}
	return data[0] & ecnMask
}

// ecnControl is the control message from which quic-go reads the ECN bits, whatever the family of the packet.
func ecnControl(ecn uint8) []byte {
	msg := make([]byte, unix.CmsgSpace(4))
	binary.NativeEndian.PutUint32(putControl(msg, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 4), uint32(ecn))
	return msg
}
