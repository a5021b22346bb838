// SPDX-License-Identifier: Apache-2.0

package policy

const (
	accessToken          = "access_token"
	componentAccessToken = "component_access_token" // the only documented name below /sns/
)

var (
	authorizer = Route{Kind: Authorizer, Param: accessToken}
	component  = Route{Kind: Component, Param: accessToken}
	either     = Route{Kind: Either, Param: accessToken}
	login      = Route{Kind: Login, Param: componentAccessToken}
	user       = Route{Kind: User, Anonymous: true}
	none       = Route{Kind: None}
)

// at returns the route with its calls handed to an endpoint.
func (r Route) at(e Endpoint) Route {
	r.Endpoint = e
	return r
}

// as returns the route with its calls sent to another path.
func (r Route) as(path string) Route {
	r.Rewrite = path
	return r
}

// anonymous returns the route open to calls without a client.
func (r Route) anonymous() Route {
	r.Anonymous = true
	return r
}

// table holds the paths that are not what their family is. Its keys are lower
// case. Whose token a path takes is from WeChat's documentation (openApi and
// Third-party_Platforms) and, where that is silent, from what the SDKs send.
var table = map[string]Route{
	"/cgi-bin/token":                          none.at(Token),
	"/cgi-bin/stable_token":                   none.at(StableToken),
	"/cgi-bin/component/api_component_token":  none.at(APIComponentToken),
	"/cgi-bin/component/api_authorizer_token": none.at(APIAuthorizerToken),

	"/cgi-bin/component/api_query_auth":            component.at(APIQueryAuth),
	"/cgi-bin/component/api_get_authorizer_info":   component.at(APIGetAuthorizerInfo),
	"/cgi-bin/component/api_get_authorizer_list":   component.at(APIGetAuthorizerList),
	"/cgi-bin/component/api_get_authorizer_option": component.at(APIAuthorizerOption),
	"/cgi-bin/component/api_set_authorizer_option": component.at(APIAuthorizerOption),
	"/cgi-bin/component/api_create_preauthcode":    component.at(APICreatePreauthcode),
	"/cgi-bin/component/api_start_push_ticket":     component.at(APIStartPushTicket),
	"/cgi-bin/component/clear_quota/v2":            component.at(ComponentClearQuotaV2),
	"/cgi-bin/clear_quota/v2":                      authorizer.at(ClearQuotaV2),
	"/cgi-bin/openapi/rid/get":                     either.at(RIDGet),
	"/cgi-bin/ticket/getticket":                    authorizer.at(SharedTicket), // doc/service/api/webdev/js/api_getticket

	// The option calls dropped authorizer_appid from their bodies when they
	// lost the "api_" in front, so now the token must name the account; one
	// page of the documentation still says component.
	"/cgi-bin/component/get_authorizer_option": authorizer,
	"/cgi-bin/component/set_authorizer_option": authorizer,
	"/cgi-bin/component/getprivacysetting":     authorizer,
	"/cgi-bin/component/setprivacysetting":     authorizer,
	"/cgi-bin/component/uploadprivacyextfile":  authorizer,

	"/wxa/gettemplatedraftlist":                         component,
	"/wxa/gettemplatelist":                              component,
	"/wxa/addtotemplate":                                component,
	"/wxa/deletetemplate":                               component,
	"/wxa/security/applysetorderpathinfo":               component,
	"/wxa/servicemarket/service/get_service_buyer_list": component,
	"/wxa/servicemarket/service/get_service_buyer":      component,
	"/wxa/servicemarket/service/login_auth":             component,
	"/wxa/servicemarket/get_paid_order_list":            component,
	"/wedata/wedata_get_login_config":                   component,
	"/wedata/wedata_set_login_config":                   component,

	"/cgi-bin/getcallbackip":     either,
	"/cgi-bin/get_api_domain_ip": either,
	"/cgi-bin/clear_quota":       either,
	"/cgi-bin/openapi/quota/get": either,
	"/tcb/modifyenv":             either,
	"/tcb/invokecloudfunction":   either,
	"/tcb/usecloudaccesstoken":   either,
	// One path for many actions: GetAgencySettlement says component,
	// GetSettlement beside it says authorizer (OpenApiDoc/ams/settlement).
	"/wxa/operationams": either,

	"/sns/jscode2session":                 login.as("/sns/component/jscode2session"),
	"/sns/oauth2/access_token":            login.as("/sns/oauth2/component/access_token"),
	"/sns/oauth2/refresh_token":           login.as("/sns/oauth2/component/refresh_token").anonymous(),
	"/sns/component/jscode2session":       login,
	"/sns/oauth2/component/access_token":  login,
	"/sns/oauth2/component/refresh_token": login,
	"/sns/userinfo":                       user,
	"/sns/auth":                           user,
}

// families are the folders whose paths are platform-level unless the table
// says otherwise, new ones of WeChat's included: the mistake then is a refusal
// to the clients without component_api, not a platform call they may make.
var families = []struct {
	prefix string
	route  Route
}{
	{"/cgi-bin/component/", component},
	{"/wxa/component/", component},
	{"/componenttcb/", component},
	{"/sns/component/", Route{Kind: Component, Param: componentAccessToken}},
	{"/sns/oauth2/component/", Route{Kind: Component, Param: componentAccessToken}},
}
