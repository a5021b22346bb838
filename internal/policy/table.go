// SPDX-License-Identifier: Apache-2.0

package policy

const (
	accessToken          = "access_token"
	componentAccessToken = "component_access_token" // what older pages write for the component's token, and all below /sns/
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

// by returns the route with its token in another query parameter.
func (r Route) by(param string) Route {
	r.Param = param
	return r
}

// anonymous returns the route open to calls without a client.
func (r Route) anonymous() Route {
	r.Anonymous = true
	return r
}

// Row is a row of the table.
type Row struct {
	// Path is in lower case.
	Path string
	// Action is the value of the query parameter action for which the row holds;
	// "" for all that have no row of their own. Of a row with an action the table
	// takes the kind alone.
	Action string
	Route  Route
	// Page is what the row follows: a page below developers.weixin.qq.com/, or an
	// SDK where no page was found.
	Page string
}

// Folders of pages.
const (
	openAPI   = "doc/oplatform/openApi/"
	pages2023 = "doc/oplatform/openApi/OpenApiDoc/" // some exist under no newer address
	platforms = "doc/oplatform/Third-party_Platforms/2.0/api/"
	service   = "doc/service/api/"
	market    = "doc/oplatform/partner/service_market/interface/value_added/"
	ministore = "doc/ministore/minishopopencomponent/API/"
	webLogin  = platforms + "Before_Develop/Official_Accounts/official_account_website_authorization"
	skit      = "SKIT.FlurlHttpClient.Wechat.Api 3.x (SDK)"
)

// Rows are the paths that are not what their family is. They must not be changed.
//
// In November 2026 these folders of pages were compared with the table, as far as
// copies of the pages were found, otherwise what SDKs send: ticket-token,
// authorization-management, apimanage and base (quota, rid, callback check, addresses
// of WeChat), thirdparty-management/template-management, register-management, ams,
// cloudbase-common and cloudbase-batch (tcb, componenttcb), code-management,
// privacy-management, we-analysis, login, the service market, and ministore's register
// and service. Not compared, for want of pages: domain-management of the platform,
// icp, order paths, live and logistics plugins.
var Rows = []Row{
	{"/cgi-bin/token", "", none.at(Token), service + "base/api_getaccesstoken"},
	{"/cgi-bin/stable_token", "", none.at(StableToken), service + "base/api_getstableaccesstoken"},
	{"/cgi-bin/component/api_component_token", "", none.at(APIComponentToken), openAPI + "ticket-token/api_getcomponentaccesstoken"},
	{"/cgi-bin/component/api_authorizer_token", "", none.at(APIAuthorizerToken), openAPI + "ticket-token/api_getauthorizeraccesstoken"},

	{"/cgi-bin/component/api_query_auth", "", component.at(APIQueryAuth), openAPI + "ticket-token/api_getauthorizerrefreshtoken"},
	{"/cgi-bin/component/api_get_authorizer_info", "", component.at(APIGetAuthorizerInfo), openAPI + "authorization-management/api_getauthorizerinfo"},
	{"/cgi-bin/component/api_get_authorizer_list", "", component.at(APIGetAuthorizerList), openAPI + "authorization-management/api_getauthorizerlist"},
	{"/cgi-bin/component/api_get_authorizer_option", "", component.at(APIAuthorizerOption), platforms + "ThirdParty/Account_Authorization/api_get_authorizer_option"},
	{"/cgi-bin/component/api_set_authorizer_option", "", component.at(APIAuthorizerOption), platforms + "ThirdParty/Account_Authorization/api_set_authorizer_option"},
	{"/cgi-bin/component/api_create_preauthcode", "", component.at(APICreatePreauthcode), openAPI + "ticket-token/api_getpreauthcode"},
	{"/cgi-bin/component/api_start_push_ticket", "", component.at(APIStartPushTicket), openAPI + "ticket-token/api_startpushticket"},
	{"/cgi-bin/component/clear_quota/v2", "", component.at(ComponentClearQuotaV2), openAPI + "openapi/api_componentclearquota_v2"},
	{"/cgi-bin/clear_quota/v2", "", authorizer.at(ClearQuotaV2), "doc/channels/api/basic/api_clearquotabyappsecret"},
	{"/cgi-bin/openapi/rid/get", "", either.at(RIDGet), service + "apimanage/api_getridinfo"},
	{"/cgi-bin/ticket/getticket", "", authorizer.at(SharedTicket), service + "webdev/js/api_getticket"},

	// The option calls dropped authorizer_appid from their bodies when they lost
	// the "api_" in front. The Chinese page still says component, the English one
	// authorizer.
	{"/cgi-bin/component/get_authorizer_option", "", either, openAPI + "authorization-management/api_getauthorizeroptioninfo"},
	{"/cgi-bin/component/set_authorizer_option", "", either, openAPI + "authorization-management/api_setauthorizeroptioninfo"},
	{"/cgi-bin/component/getprivacysetting", "", authorizer, pages2023 + "miniprogram-management/privacy-management/getPrivacySetting"},
	{"/cgi-bin/component/setprivacysetting", "", authorizer, pages2023 + "miniprogram-management/privacy-management/setPrivacySetting"},
	{"/cgi-bin/component/uploadprivacyextfile", "", authorizer, pages2023 + "miniprogram-management/privacy-management/uploadPrivacySetting"},

	// A trial mini program becomes a regular one: it is an account by then, and
	// its token says which.
	{"/wxa/component/fastnormalizebetaweapp", "", authorizer, openAPI + "register-management/fast-regist-beta/api_fastnormalizebetaweapp"},
	{"/wxa/component/reusemchidfastnormalizebetaweapp", "", authorizer, platforms + "beta_Mini_Programs/fastverifyV2; " + skit},

	{"/wxa/gettemplatedraftlist", "", component, openAPI + "thirdparty-management/template-management/api_gettemplatedraftlist"},
	{"/wxa/gettemplatelist", "", component, openAPI + "thirdparty-management/template-management/api_gettemplatelist"},
	{"/wxa/addtotemplate", "", component, openAPI + "thirdparty-management/template-management/api_addtotemplate"},
	{"/wxa/deletetemplate", "", component, platforms + "ThirdParty/code_template/deletetemplate"},
	{"/wxa/security/applysetorderpathinfo", "", component, skit},
	{"/wxa/servicemarket/service/get_service_buyer_list", "", component, market + "servicemarket_get_service_buyer_list"},
	{"/wxa/servicemarket/service/get_service_buyer", "", component, market + "servicemarket_get_service_buyer"},
	{"/wxa/servicemarket/service/login_auth", "", component, "doc/oplatform/service_market/interface/value_added/servicemarket_login_auth"},
	// One page names the component's, an authorizer's and the token of a company's own page.
	{"/wxa/servicemarket/get_paid_order_list", "", either, market + "servicemarket_get_paid_order_list"},
	{"/wedata/wedata_get_login_config", "", component, pages2023 + "miniprogram-management/we-analysis/weDataGetLoginConfig"},
	{"/wedata/wedata_set_login_config", "", component, pages2023 + "miniprogram-management/we-analysis/weDataSetLoginConfig"},
	{"/product/service/check_auth", "", component.by(componentAccessToken), ministore + "service/check_auth"},
	{"/product/register/register_shop", "", component.by(componentAccessToken), ministore + "register/register_shop"},
	// The component's token as long as the shop has no appid, then the shop's.
	{"/product/register/check_audit_status", "", either, ministore + "register/check_audit_status"},

	// The company's share of the income from advertisements is the platform's,
	// what an account earned is the account's.
	{"/wxa/setdefaultamsinfo", "", component, "doc/oplatform/en/openApi/OpenApiDoc/ams/percentage/SetShareRatio"},
	{"/wxa/getdefaultamsinfo", "", either, openAPI + "ams/settlement/api_getagencysettlement"},
	{"/wxa/getdefaultamsinfo", "get_share_ratio", component, "doc/oplatform/en/openApi/OpenApiDoc/ams/percentage/GetShareRatio"},
	{"/wxa/getdefaultamsinfo", "agency_get_custom_share_ratio", component, "doc/oplatform/en/openApi/OpenApiDoc/ams/percentage/GetCustomShareRatio"},
	{"/wxa/getdefaultamsinfo", "get_agency_settled_revenue", component, openAPI + "ams/settlement/api_getagencysettlement"},
	{"/wxa/getdefaultamsinfo", "get_agency_ads_stat", authorizer, openAPI + "ams/ad-data/api_getagencyadsstat"},
	{"/wxa/getdefaultamsinfo", "get_agency_ads_detail", authorizer, openAPI + "ams/ad-data/api_getagencyadsdetail"},
	// All its actions take the account's token today. The pages of 2023 had here,
	// with the component's, get_agency_settled_revenue.
	{"/wxa/operationams", "", either, pages2023 + "ams/settlement/GetAgencySettlement"},

	{"/cgi-bin/getcallbackip", "", either, "doc/oplatform/en/Third-party_Platforms/2.0/api/Before_Develop/component_verify_ticket_troubleshooting"},
	{"/cgi-bin/get_api_domain_ip", "", either, service + "base/api_getapidomainip"},
	{"/cgi-bin/callback/check", "", either, "miniprogram/dev/server/API/openApi-mgnt/api_callbackcheck"},
	{"/cgi-bin/clear_quota", "", either, service + "apimanage/api_clearquota"},
	{"/cgi-bin/openapi/quota/get", "", either, service + "apimanage/api_getapiquota"},
	{"/cgi-bin/openapi/quota/clear", "", either, "doc/channels/api/basic/api_clearapiquota"},
	{"/cgi-bin/changeopenid", "", either, service + "usermanage/changeopenid/api_changeopenid"},
	{"/tcb/modifyenv", "", either, platforms + "cloudbase; " + skit},
	{"/tcb/invokecloudfunction", "", either, platforms + "cloudbase; " + skit},
	{"/tcb/usecloudaccesstoken", "", either, platforms + "cloudbase/batch/usecloudaccesstoken"},

	{"/sns/jscode2session", "", login.as("/sns/component/jscode2session"), openAPI + "miniprogram-management/login/api_thirdpartycode2session"},
	{"/sns/oauth2/access_token", "", login.as("/sns/oauth2/component/access_token"), webLogin},
	{"/sns/oauth2/refresh_token", "", login.as("/sns/oauth2/component/refresh_token").anonymous(), webLogin},
	{"/sns/component/jscode2session", "", login, openAPI + "miniprogram-management/login/api_thirdpartycode2session"},
	{"/sns/oauth2/component/access_token", "", login, webLogin},
	{"/sns/oauth2/component/refresh_token", "", login, webLogin},
	{"/sns/userinfo", "", user, webLogin},
	{"/sns/auth", "", user, "doc/oplatform/Website_App/WeChat_Login/Authorized_Interface_Calling_UnionID"},
}

// table is Rows by path.
var table = tableOf(Rows)

func tableOf(rows []Row) map[string]Route {
	table := make(map[string]Route, len(rows))
	for _, row := range rows {
		if row.Action == "" {
			table[row.Path] = row.Route
			continue
		}
		route := table[row.Path] // its row stands before
		if route.Actions == nil {
			route.Actions = &Actions{}
			table[row.Path] = route
		}
		(*route.Actions)[row.Action] = row.Route.Kind
	}
	return table
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
	{"/sns/component/", component.by(componentAccessToken)},
	{"/sns/oauth2/component/", component.by(componentAccessToken)},
}
