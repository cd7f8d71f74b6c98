package interpolate

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// layouts are the strftime verbs that Go's time package has words for.
var layouts = map[byte]string{
	'A': "Monday", 'a': "Mon", 'B': "January", 'b': "Jan", 'h': "Jan",
	'c': "Mon Jan _2 15:04:05 2006", 'D': "01/02/06", 'd': "02", 'e': "_2",
	'F': "2006-01-02", 'H': "15", 'I': "03", 'j': "002", 'M': "04", 'm': "01",
	'p': "PM", 'R': "15:04", 'r': "03:04:05 PM", 'S': "05", 'T': "15:04:05",
	'v': "_2-Jan-2006", 'X': "15:04:05", 'x': "01/02/06", 'Y': "2006", 'y': "06",
	'Z': "MST", 'z': "-0700",
}

// Strftime formats t as C's strftime does. A verb that it does not know is an error.
func Strftime(pattern string, t time.Time) (string, error) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			b.WriteByte(pattern[i])
			continue
		}
		if i++; i == len(pattern) {
			return "", fmt.Errorf("%q ends in a lone %%", pattern)
		}
		if layout, ok := layouts[pattern[i]]; ok {
			b.WriteString(t.Format(layout))
			continue
		}
		switch pattern[i] {
		case '%':
			b.WriteByte('%')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'C':
			fmt.Fprintf(&b, "%02d", t.Year()/100)
		case 'k':
			fmt.Fprintf(&b, "%2d", t.Hour())
		case 'l':
			fmt.Fprintf(&b, "%2d", (t.Hour()+11)%12+1)
		case 'U':
			fmt.Fprintf(&b, "%02d", (t.YearDay()+6-int(t.Weekday()))/7)
		case 'u':
			b.WriteString(strconv.Itoa((int(t.Weekday())+6)%7 + 1))
		case 'V':
			_, week := t.ISOWeek()
			fmt.Fprintf(&b, "%02d", week)
		case 'w':
			b.WriteString(strconv.Itoa(int(t.Weekday())))
		default:
			return "", fmt.Errorf("%q: strftime knows no %%%c", pattern, pattern[i])
		}
	}
	return b.String(), nil
}
