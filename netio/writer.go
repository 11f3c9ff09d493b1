package netio

import "sync/atomic"

// freeWrite is how many bytes of a bulk stream are handed to QUIC at once while there is nothing
// interactive: enough to keep it busy, and not too much for what begins meanwhile.
const freeWrite = 128 << 10

// writer hands the frames of a stream to QUIC: those of a bulk stream at the pace
// of its connection. One pump at a time writes.
type writer struct {
	raw  rawSender
	pace *pace           // nil: there is none
	bulk bool            // the stream gives way
	gone <-chan struct{} // closed when the QUIC stream takes no more

	put   int           // bytes since the last whole unit; for the pump
	taken atomic.Uint64 // units that were handed to QUIC
	told  atomic.Uint64 // units that are known to have come
	over  atomic.Bool   // nothing will be heard of those that are handed over from now on
}

// write writes frames. counts tells whether they are messages.
func (w *writer) write(frames []byte, counts bool) error {
	if w.pace == nil || !counts {
		_, err := w.raw.Write(frames)
		return err
	}
	if !w.bulk {
		w.pace.touch()
		_, err := w.raw.Write(frames)
		return err
	}
	for len(frames) > 0 {
		var n int
		if w.pace.yields(w.pace.now()) {
			if n = min(len(frames), paceUnit-w.put); w.put+n == paceUnit {
				w.pace.take(w.gone)
			}
		} else {
			n = min(len(frames), freeWrite)
			w.pace.count((w.put + n) / paceUnit)
		}
		w.put += n
		w.taken.Add(uint64(w.put / paceUnit))
		w.put %= paceUnit
		if w.over.Load() {
			w.end()
		}
		if _, err := w.raw.Write(frames[:n]); err != nil {
			return err
		}
		frames = frames[n:]
	}
	return nil
}

// tryWrite writes messages if QUIC takes them at once, and says whether it did. It does not block.
func (w *writer) tryWrite(frames []byte) bool {
	if w.bulk {
		return false
	}
	if w.pace != nil {
		w.pace.touch()
	}
	return w.raw.TryWriteAll(frames) == nil
}

// came notes how many bytes the other side has.
func (w *writer) came(bytes uint64) {
	if n := w.account(bytes / paceUnit); n > 0 {
		w.pace.arrived(n)
	}
}

// end notes that nothing more will be heard.
func (w *writer) end() {
	w.over.Store(true)
	if n := w.account(w.taken.Load()); n > 0 {
		w.pace.forget(n)
	}
}

// account returns how many units are news, of so many.
func (w *writer) account(units uint64) int {
	for w.pace != nil {
		told := w.told.Load()
		if units = min(units, w.taken.Load()); units <= told {
			return 0
		}
		if w.told.CompareAndSwap(told, units) {
			return int(units - told)
		}
	}
	return 0
}
