package sim_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// FuzzSchedule plays what a fuzzer's bytes say. See TestSchedules for what must be
// so.
func FuzzSchedule(f *testing.F) {
	for length := 50; length <= 400; length += 50 {
		data := make([]byte, length)
		_, _ = rand.NewChaCha8([32]byte{byte(length)}).Read(data) // never fails
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := decodeSchedule(data)
		faults := playSchedule(t, s)
		for _, fault := range faults {
			t.Error(faultMark + fault)
		}
		if t.Failed() {
			t.Logf("put this into a file and make it shorter with\n\tgo test ./sim -run 'TestShrink$' -shrink 10m -schedule FILE\n%s", s)
		}
	})
}

// scheduleFiles returns the schedules that once failed.
func scheduleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "schedules", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal(os.ErrNotExist)
	}
	return files
}
