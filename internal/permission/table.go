// SPDX-License-Identifier: Apache-2.0

package permission

// set is a permission set.
type set struct {
	id     uint8
	zh, en string
}

// names are the names of permission sets, in the order of their ids. The Chinese ones
// are WeChat's own. The English ones are ours where WeChat's page is translated by a
// machine. Official accounts and mini programs have no id in common.
//
// Source, below https://developers.weixin.qq.com/doc/oplatform/:
//
//	Third-party_Platforms/2.0/product/offical_account_authority.html     official accounts, 1 to 113
//	Third-party_Platforms/2.0/product/miniprogram_authority.html         mini programs, 17 to 85
//	en/Third-party_Platforms/2.0/product/miniprogram_authority.html      36, which the Chinese page has no more
//
// The mini programs' ids from 88 on, and 121, were compared with copies of these pages
// in public programs, whose names below 88 are those of the pages.
var names = [...]set{
	{1, "消息管理", "Messages"},
	{2, "用户管理", "Users"},
	{3, "账号服务", "Account service"},
	{4, "网页服务", "Web pages"},
	{5, "微信小店", "WeChat Store"},
	{6, "微信多客服", "Customer service by several agents"},
	{7, "群发与通知", "Broadcasts and notifications"},
	{8, "微信卡券", "Cards and coupons"},
	{9, "微信扫一扫", "WeChat Scan"},
	{10, "微信连WIFI", "Wi-Fi via WeChat"},
	{11, "素材管理", "Media"},
	{12, "微信摇周边", "Shake Nearby"},
	{13, "微信门店", "Shops"},
	{15, "菜单管理", "Menus"},
	{17, "获取小程序码", "Mini Program codes"},
	{18, "小程序开发与数据分析", "Mini Program development and data analysis"},
	{19, "小程序客服管理", "Mini Program customer service"},
	{22, "城市服务", "City services"},
	{23, "广告管理", "Advertisements"},
	{24, "开放平台账号管理", "Open Platform account"},
	{25, "开放平台账号管理", "Open Platform account (Mini Program)"},
	{26, "微信电子发票", "Electronic invoices"},
	{27, "快速注册小程序", "Fast registration of Mini Programs"},
	{30, "小程序基本信息管理", "Mini Program basic information"},
	{31, "小程序认证名称检测", "Mini Program name check"},
	{33, "小程序关联管理", "Linked Mini Programs"},
	{34, "微信商品库管理", "Product library"},
	{36, "微信卡路里管理", "WeChat calories"},
	{37, "附近的小程序管理", "Mini Programs nearby"},
	{40, "小程序插件管理", "Mini Program plug-ins"},
	{41, "好物圈管理", "Good Stuff circle (Mini Program)"},
	{44, "好物圈", "Good Stuff circle"},
	{45, "微信物流服务", "WeChat logistics"},
	{46, "微信一物一码", "One code for each item"},
	{47, "微信财政电子票据", "Electronic fiscal bills"},
	{48, "微信财政电子票据管理", "Electronic fiscal bills (Mini Program)"},
	{49, "小程序云开发管理", "Mini Program cloud development"},
	{51, "小程序即时配送", "Mini Program instant delivery"},
	{52, "小程序直播管理", "Mini Program live broadcasts"},
	{54, "服务号对话管理", "Service account conversations"},
	{65, "小程序广告管理", "Mini Program advertisements"},
	{66, "微信服务市场管理", "WeChat service market"},
	{67, "微信服务市场管理", "WeChat service market (Mini Program)"},
	{70, "标准版交易组件商品管理", "Standard trade component: products"},
	{71, "标准版交易组件订单物流与售后管理", "Standard trade component: orders, logistics and after-sales"},
	{73, "标准版交易组件接入", "Standard trade component: access"},
	{76, "小程序违规与交易投诉管理", "Mini Program violations and complaints"},
	{81, "试用小程序快速认证", "Fast verification of trial Mini Programs"},
	{84, "标准版交易组件优惠券管理", "Standard trade component: coupons"},
	{85, "自定义版交易组件管理", "Custom trade component"},
	{88, "小程序链接管理", "Mini Program links"},
	{89, "服务号订阅通知", "Service account subscription messages"},
	{93, "小程序联盟管理", "Mini Program alliance"},
	{99, "云开发短信服务", "Cloud development: SMS"},
	{105, "城市服务", "City services (Mini Program)"},
	{113, "就医助手", "Medical assistant"},
	{116, "获取自定义版交易组件数据", "Custom trade component: data"},
	{118, "硬件服务", "Devices"},
	{119, "小程序支付管理服务", "Mini Program payment"},
	{120, "小程序购物订单", "Mini Program shopping orders"},
	{121, "公众号购物订单", "Official account shopping orders"},
	{129, "视频号小店商品管理", "Channels shop: products"},
	{130, "视频号小店物流管理", "Channels shop: logistics"},
	{131, "视频号小店订单与售后管理", "Channels shop: orders and after-sales"},
	{132, "视频号小店优惠券管理", "Channels shop: coupons"},
	{135, "流量主代运营权限集", "Publisher operation"},
	{139, "小程序运费险", "Mini Program freight insurance"},
	{142, "小程序发货管理服务", "Mini Program shipping"},
	{144, "小程序学生认证权限集", "Mini Program student verification"},
	{151, "小程序交易保障", "Mini Program trade guarantee"},
	{156, "小程序备案服务", "Mini Program ICP filing"},
	{157, "小程序虚拟支付管理权限", "Mini Program virtual payment"},
	{161, "微信客服管理", "WeChat customer service"},
	{182, "小程序订单管理服务", "Mini Program orders"},
}

// need is which permission sets a path needs.
type need struct {
	path string
	page string // of WeChat, that says so
	sets []int  // any one of them
}

// needs are the paths whose page names permission sets (该接口所属的权限集 id), in the
// order of the paths. The pages are those below https://developers.weixin.qq.com/; of
// some only the name was found, in copies of the page. Older copies also name the sets
// 58 and 115, of mini games, which stand in the rows of all codes and links: nobody is
// told that a set is missing which the account has granted in another form.
var needs = [...]need{
	{"/card/invoice/biz/getselecttitleurl", "doc/service/en/api/invoice/name/api_invoicebizgetselecttitleurl", []int{26}},
	{"/cgi-bin/express/business/delivery/getall", "miniprogram/dev/OpenApiDoc: getAllDelivery", []int{45, 71}},
	{"/cgi-bin/express/business/path/get", "miniprogram/dev/OpenApiDoc: getPath", []int{45, 71}},
	{"/cgi-bin/material/batchget_material", "doc/service/api/material/permanent/api_batchgetmaterial", []int{11, 100}},
	{"/cgi-bin/material/get_material", "doc/service/api/material/permanent/api_getmaterial", []int{3, 11, 18, 30, 31, 100}},
	{"/cgi-bin/menu/create", "doc/service/api/custommenu/api_createcustommenu", []int{15}},
	{"/cgi-bin/message/custom/send", "doc/service/api/customer/message/api_sendcustommessage", []int{1, 6, 19, 100, 101}},
	{"/cgi-bin/message/template/send", "doc/service/api/notify/template/api_sendtemplatemessage", []int{7, 100, 101}},
	{"/cgi-bin/message/template/subscribe", "doc/service/en/api/notify/subscribe/api_templatesubscribe", []int{7}},
	{"/cgi-bin/template/api_add_template", "doc/service/en/api/notify/template/api_addtemplate", []int{7, 100, 101}},
	{"/cgi-bin/user/info", "doc/service/api/usermanage/userinfo/api_userinfo", []int{2, 100}},
	{"/cgi-bin/user/info/batchget", "doc/service/api/usermanage/userinfo/api_batchuserinfo", []int{2, 100}},
	{"/cgi-bin/wxaapp/createwxaqrcode", "miniprogram/dev/server/API/qrcode-link/qr-code/api_createqrcode", []int{17, 58}},
	{"/datacube/getweanalysisappidweeklyretaininfo", "miniprogram/dev/OpenApiDoc: getWeeklyRetain", []int{18, 21}},
	{"/wxa/business/getuserphonenumber", "miniprogram/dev/server/API/user-info/phone-number/api_getphonenumber", []int{18}},
	{"/wxa/commit", "doc/oplatform/openApi/OpenApiDoc: commit", []int{18}},
	{"/wxa/generate_commercial_urllink", "miniprogram/dev/OpenApiDoc/qrcode-link/url-link/generateCommercialUrlLink", []int{88, 115}},
	{"/wxa/generate_urllink", "minigame/dev/api-backend/url-link/api_generateurllink", []int{88, 115}},
	{"/wxa/generatescheme", "miniprogram/dev/server/API/qrcode-link/url-scheme/api_generatescheme", []int{88, 115}},
	{"/wxa/getsnticket", "miniprogram/dev/OpenApiDoc/hardware-device/getSnTicket", []int{118}},
	{"/wxa/getwxacodeunlimit", "miniprogram/dev/server/API/qrcode-link/qr-code/api_getunlimitedqrcode", []int{17, 58}},
	{"/wxa/queryscheme", "miniprogram/dev/server/API/qrcode-link/url-scheme/api_queryscheme", []int{88, 115}},
	{"/wxa/sec/order/upload_shipping_info", "miniprogram/dev: uploadShippingInfo", []int{142}},
	{"/wxaapi/newtmpl/addtemplate", "miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/addMessageTemplate", []int{18, 89}},
}
