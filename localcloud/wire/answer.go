package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Namespaces of the APIs' answers.
const (
	EC2 = "http://ec2.amazonaws.com/doc/2016-11-15/"
	STS = "https://sts.amazonaws.com/doc/2011-06-15/"
	IAM = "https://iam.amazonaws.com/doc/2010-05-08/"
)

// Answer sends what an EC2 action returned. out is a struct whose xml tags name
// the fields as EC2 does.
func Answer(w http.ResponseWriter, action, request string, out any) error {
	inner, err := fields(out)
	if err != nil {
		return fmt.Errorf("encode answer to %s: %w", action, err)
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	fmt.Fprintf(&b, "<%sResponse xmlns=%q><requestId>%s</requestId>", action, EC2, request)
	b.Write(inner)
	fmt.Fprintf(&b, "</%sResponse>", action)
	send(w, http.StatusOK, request, b.Bytes())
	return nil
}

// AnswerQuery sends what an action of STS or IAM returned.
func AnswerQuery(w http.ResponseWriter, namespace, action, request string, out any) error {
	inner, err := fields(out)
	if err != nil {
		return fmt.Errorf("encode answer to %s: %w", action, err)
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	fmt.Fprintf(&b, "<%[1]sResponse xmlns=%[2]q><%[1]sResult>%[3]s</%[1]sResult>"+
		"<ResponseMetadata><RequestId>%[4]s</RequestId></ResponseMetadata></%[1]sResponse>",
		action, namespace, inner, request)
	send(w, http.StatusOK, request, b.Bytes())
	return nil
}

// fields encodes the fields of a struct without an element around them.
func fields(out any) ([]byte, error) {
	if out == nil {
		return nil, nil
	}
	var b bytes.Buffer
	if err := xml.NewEncoder(&b).EncodeElement(out, xml.StartElement{Name: xml.Name{Local: "x"}}); err != nil {
		return nil, err
	}
	s := bytes.TrimPrefix(b.Bytes(), []byte("<x>"))
	return bytes.TrimSuffix(s, []byte("</x>")), nil
}

// send writes head and body at once and with a length: SDKs take a body that
// arrives in pieces on a connection that is then closed for a broken one.
func send(w http.ResponseWriter, status int, request string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/xml;charset=UTF-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Amzn-Requestid", request)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: nobody is left to tell
}

// A Time is written as EC2 writes times: UTC with milliseconds. The zero value
// is written as the empty string.
type Time time.Time

// MarshalText writes the time in EC2's form.
func (t Time) MarshalText() ([]byte, error) {
	if time.Time(t).IsZero() {
		return nil, nil
	}
	return []byte(Stamp(time.Time(t))), nil
}

// Stamp formats t as EC2 does.
func Stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
