// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"io"
	"net/http"
	"strings"
)

// tokenKind is what a path asks its caller to prove with.
type tokenKind int

const (
	takesAuthorizer tokenKind = iota // most of the API
	takesComponent
	takesEither // the subject of the token decides
	takesUser   // a web user's OAuth token
	takesOption // authorizer, or component by Switches.OptionTakesComponent
	takesNone   // a secret or a code in the request
	takesPage   // a browser
)

// route is one endpoint. An empty method accepts any.
type route struct {
	token  tokenKind
	method string
	answer func(*Sandbox, *exchange) (any, error)
}

// kind settles takesOption.
func (r route) kind(switches Switches) tokenKind {
	switch {
	case r.token != takesOption:
		return r.token
	case switches.OptionTakesComponent:
		return takesComponent
	}
	return takesAuthorizer
}

const (
	get  = http.MethodGet
	post = http.MethodPost

	// login is GET, or POST with the parameters in the query, a form or JSON;
	// Switches.LoginByGET makes it GET alone.
	login = "login"
)

// routes are the endpoints with a behaviour of their own.
var routes = map[string]route{
	"/cgi-bin/component/api_component_token":       {takesNone, post, (*Sandbox).componentToken},
	"/cgi-bin/component/api_start_push_ticket":     {takesNone, post, (*Sandbox).startPushTicket},
	"/cgi-bin/component/clear_quota/v2":            {takesNone, post, (*Sandbox).clearQuotaBySecret},
	"/cgi-bin/component/api_create_preauthcode":    {takesComponent, post, (*Sandbox).createPreAuthCode},
	"/cgi-bin/component/api_query_auth":            {takesComponent, post, (*Sandbox).queryAuth},
	"/cgi-bin/component/api_authorizer_token":      {takesComponent, post, (*Sandbox).authorizerToken},
	"/cgi-bin/component/api_get_authorizer_info":   {takesComponent, post, (*Sandbox).authorizerInfo},
	"/cgi-bin/component/api_get_authorizer_list":   {takesComponent, post, (*Sandbox).authorizerList},
	"/cgi-bin/component/api_get_authorizer_option": {takesComponent, post, (*Sandbox).getOption},
	"/cgi-bin/component/api_set_authorizer_option": {takesComponent, post, (*Sandbox).setOption},
	"/cgi-bin/component/get_authorizer_option":     {takesOption, post, (*Sandbox).getOption},
	"/cgi-bin/component/set_authorizer_option":     {takesOption, post, (*Sandbox).setOption},

	"/cgi-bin/clear_quota":         {takesEither, post, (*Sandbox).clearQuota},
	"/cgi-bin/openapi/quota/get":   {takesEither, post, (*Sandbox).quotaGet},
	"/cgi-bin/openapi/quota/clear": {takesEither, post, (*Sandbox).clearQuotaOfPath},
	"/cgi-bin/openapi/rid/get":     {takesEither, post, (*Sandbox).ridGet},
	"/cgi-bin/get_api_domain_ip":   {takesEither, get, (*Sandbox).ipList},
	"/cgi-bin/getcallbackip":       {takesEither, get, (*Sandbox).ipList},

	"/cgi-bin/token":          {takesNone, get, (*Sandbox).ordinaryToken},
	"/cgi-bin/stable_token":   {takesNone, post, (*Sandbox).ordinaryToken},
	"/cgi-bin/clear_quota/v2": {takesNone, post, (*Sandbox).ordinaryToken},

	"/sns/jscode2session":                 {takesNone, login, (*Sandbox).ordinaryToken},
	"/sns/oauth2/access_token":            {takesNone, login, (*Sandbox).ordinaryToken},
	"/sns/oauth2/refresh_token":           {takesNone, login, (*Sandbox).userRefresh},
	"/sns/component/jscode2session":       {takesComponent, login, (*Sandbox).session},
	"/sns/oauth2/component/access_token":  {takesComponent, login, (*Sandbox).userToken},
	"/sns/oauth2/component/refresh_token": {takesComponent, login, (*Sandbox).userRefresh},
	"/sns/userinfo":                       {takesUser, get, (*Sandbox).userInfo},
	"/sns/auth":                           {takesUser, get, (*Sandbox).userAuth},

	"/cgi-bin/message/custom/send":   {takesAuthorizer, post, (*Sandbox).customSend},
	"/cgi-bin/message/template/send": {takesAuthorizer, post, (*Sandbox).templateSend},
	"/cgi-bin/media/upload":          {takesAuthorizer, post, (*Sandbox).mediaUpload},
	"/cgi-bin/material/add_material": {takesAuthorizer, post, (*Sandbox).mediaUpload},
	"/cgi-bin/media/uploadimg":       {takesAuthorizer, post, (*Sandbox).uploadImage},
	"/cgi-bin/media/get":             {takesAuthorizer, get, (*Sandbox).mediaGet},
	"/cgi-bin/material/get_material": {takesAuthorizer, post, (*Sandbox).mediaGet},
	"/cgi-bin/user/info":             {takesAuthorizer, get, (*Sandbox).followerInfo},
	"/cgi-bin/user/get":              {takesAuthorizer, get, (*Sandbox).followers},
	"/cgi-bin/menu/create":           {takesAuthorizer, post, (*Sandbox).menuCreate},
	"/cgi-bin/menu/get":              {takesAuthorizer, get, (*Sandbox).menuGet},
	"/cgi-bin/menu/delete":           {takesAuthorizer, get, (*Sandbox).menuDelete},
	"/cgi-bin/ticket/getticket":      {takesAuthorizer, get, (*Sandbox).getTicket},
	"/wxa/getwxacode":                {takesAuthorizer, post, (*Sandbox).miniProgramCode},
	"/wxa/getwxacodeunlimit":         {takesAuthorizer, post, (*Sandbox).miniProgramCode},
	"/wxa/msg_sec_check":             {takesAuthorizer, post, (*Sandbox).textCheck},

	"/cgi-bin/componentloginpage": {takesPage, get, (*Sandbox).authorizePage},
	"/safe/bindcomponent":         {takesPage, get, (*Sandbox).authorizePage},
	"/wxaopen/safe/bindcomponent": {takesPage, get, (*Sandbox).authorizePage},
}

// componentPaths take a component token and have no behaviour of their own; one
// that ends in / stands for everything below it.
var componentPaths = []string{
	"/cgi-bin/component/fastregisterweapp",
	"/cgi-bin/component/modify_wxa_server_domain",
	"/cgi-bin/component/modify_wxa_jump_domain",
	"/cgi-bin/component/get_domain_confirmfile",
	"/wxa/component/fastregisterpersonalweapp",
	"/wxa/component/fastregisterbetaweapp",
	"/wxa/gettemplatedraftlist",
	"/wxa/gettemplatelist",
	"/wxa/addtotemplate",
	"/wxa/deletetemplate",
	"/wxa/security/applysetorderpathinfo",
	"/wxa/servicemarket/service/get_service_buyer_list",
	"/wxa/servicemarket/service/get_service_buyer",
	"/wxa/servicemarket/service/login_auth",
	"/wxa/setdefaultamsinfo",
	"/wedata/wedata_get_login_config",
	"/wedata/wedata_set_login_config",
	"/componenttcb/",
	"/product/service/check_auth",
	"/product/register/register_shop",
}

// eitherPaths take a token of either kind and have no behaviour of their own.
var eitherPaths = []string{
	"/cgi-bin/callback/check",
	"/cgi-bin/changeopenid",
	"/wxa/servicemarket/get_paid_order_list",
	"/wxa/getdefaultamsinfo",
	"/wxa/operationams",
	"/product/register/check_audit_status",
	"/tcb/modifyenv",
	"/tcb/invokecloudfunction",
	"/tcb/usecloudaccesstoken",
}

// actionKinds are the kinds of token by path and the query's action, where the
// action decides. Other actions of the path are as the path is.
var actionKinds = map[[2]string]tokenKind{
	{"/wxa/getdefaultamsinfo", "get_share_ratio"}:               takesComponent,
	{"/wxa/getdefaultamsinfo", "agency_get_custom_share_ratio"}: takesComponent,
	{"/wxa/getdefaultamsinfo", "get_agency_settled_revenue"}:    takesComponent,
	{"/wxa/getdefaultamsinfo", "get_agency_ads_stat"}:           takesAuthorizer,
	{"/wxa/getdefaultamsinfo", "get_agency_ads_detail"}:         takesAuthorizer,
}

// oldNamePaths know the component's token as component_access_token alone, as their
// pages write it.
var oldNamePaths = []string{"/product/service/check_auth", "/product/register/register_shop"}

// routeFor finds the endpoint of a path. What is not known is an ordinary API of an account.
func routeFor(path, action string) route {
	if r, ok := routes[path]; ok {
		return r
	}
	if kind, ok := actionKinds[[2]string{path, action}]; ok {
		return route{kind, "", (*Sandbox).generic}
	}
	switch {
	case within(path, componentPaths):
		return route{takesComponent, "", (*Sandbox).generic}
	case within(path, eitherPaths):
		return route{takesEither, "", (*Sandbox).generic}
	case strings.HasPrefix(path, "/datacube/"):
		return route{takesAuthorizer, post, (*Sandbox).datacube}
	}
	return route{takesAuthorizer, "", (*Sandbox).generic}
}

func within(path string, table []string) bool {
	for _, entry := range table {
		if path == entry || strings.HasSuffix(entry, "/") && strings.HasPrefix(path, entry) {
			return true
		}
	}
	return false
}

// generic reads the body, for the record, and says ok.
func (s *Sandbox) generic(x *exchange) (any, error) {
	if _, err := io.Copy(io.Discard, x.body); err != nil {
		return nil, err
	}
	return okay(), nil
}
