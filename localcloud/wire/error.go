package wire

import (
	"encoding/xml"
	"fmt"
	"net/http"
)

// An Error is a refusal in EC2's words. Clients act upon Code; people read
// Message.
type Error struct {
	Code    string
	Message string
}

// Errorf makes an Error with EC2's code and a message for people.
func Errorf(code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Status returns the HTTP status that AWS sends with the error's code.
func (e *Error) Status() int {
	switch e.Code {
	case "AuthFailure":
		return http.StatusUnauthorized
	case "UnauthorizedOperation", "ExpiredToken", "AccessDenied", "MissingAuthenticationToken":
		return http.StatusForbidden
	case "NoSuchEntity":
		return http.StatusNotFound
	case "DryRunOperation":
		return http.StatusPreconditionFailed
	case "InternalError":
		return http.StatusInternalServerError
	case "RequestLimitExceeded", "Unavailable", "InsufficientInstanceCapacity", "InsufficientAddressCapacity":
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// Write answers with the error in the envelope of the API in question.
func (e *Error) Write(w http.ResponseWriter, api, request string) {
	var body any
	if api == "ec2" {
		body = &ec2Failure{Code: e.Code, Message: e.Message, Request: request}
	} else {
		kind := "Sender"
		if e.Status() >= 500 {
			kind = "Receiver"
		}
		body = &queryFailure{Type: kind, Code: e.Code, Message: e.Message, Request: request}
	}
	b, err := xml.Marshal(body)
	if err != nil { // strings only: cannot happen, and must not hide the refusal
		b = []byte(e.Error())
	}
	send(w, e.Status(), request, append([]byte(xml.Header), b...))
}

type ec2Failure struct {
	XMLName xml.Name `xml:"Response"`
	Code    string   `xml:"Errors>Error>Code"`
	Message string   `xml:"Errors>Error>Message"`
	Request string   `xml:"RequestID"`
}

type queryFailure struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	Type    string   `xml:"Error>Type"`
	Code    string   `xml:"Error>Code"`
	Message string   `xml:"Error>Message"`
	Request string   `xml:"RequestId"`
}
