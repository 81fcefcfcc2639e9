// Package templates holds the nginx templates that are shipped. They are files too, to be
// copied and changed.
package templates

import _ "embed"

// Nginx is nginx.conf.ctmpl: nginx for every service of the catalog.
//
//go:embed nginx.conf.ctmpl
var Nginx string
