package ui

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// cookieAge of logins and choices, in seconds.
const cookieAge = 12 * 3600

func loginPage(r *request) (view, error) {
	if !r.ui.cfg.ACL {
		return view{title: "Log in", body: accessOff("Log in")}, nil
	}
	return view{title: "Log in", body: login(r, "")}, nil
}

// loginPost takes a token that the catalog knows.
func loginPost(r *request) (view, error) {
	secret := strings.TrimSpace(r.PostFormValue("token"))
	again := func(text string) (view, error) {
		return view{title: "Log in", body: login(r, text), code: http.StatusUnprocessableEntity}, nil
	}
	if secret == "" {
		return again("Enter a token: its secret, not its accessor.")
	}
	asked := *r
	asked.token = secret
	var t api.Token
	switch err := asked.get("/v1/acl/token/self", nil, &t); {
	case api.KindOf(err) == api.Unauthorized:
		return again("Access control is off here: everybody may do everything, and there is nothing to log in to.")
	case api.KindOf(err) == api.Forbidden || api.KindOf(err) == api.NotFound:
		return again("There is no such token.")
	case err != nil:
		return again("The token could not be checked: " + err.Error())
	}
	r.setCookie(tokenCookie, secret, cookieAge)
	return view{to: "", code: http.StatusSeeOther}, nil
}

func logoutPost(r *request) (view, error) {
	r.setCookie(tokenCookie, "", -1)
	return view{to: "login", code: http.StatusSeeOther}, nil
}

func (r *request) setCookie(name, value string, age int) {
	http.SetCookie(r.w, &http.Cookie{
		Name: name, Value: url.QueryEscape(value), Path: r.ui.cfg.Path, MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil,
	})
}
