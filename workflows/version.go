package workflows

// Version counts the changes after which the workflows cannot go on with the
// histories of before: the tests that replay recorded histories
// (replay_test.go) say when that is. Agents that are told a deployment give it
// to Temporal, so that a build is finished by agents of the version that it
// began with. Raise it only together with new recordings.
const Version = 1
