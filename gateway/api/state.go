package api

import "time"

// State is the state file of `apply` and `export`: what an installation is made
// of. Absent fields of an object keep what it has, or for a new one mean the
// default.
type State struct {
	Trunks       []Trunk       `json:"trunks,omitempty" maxItems:"1000"`
	Users        []User        `json:"users,omitempty" maxItems:"20000"`
	Campaigns    []Campaign    `json:"campaigns,omitempty" maxItems:"5000"`
	Dispositions []Disposition `json:"dispositions,omitempty" maxItems:"50000"`
}

// Trunk is one carrier.
type Trunk struct {
	Name        string    `json:"name" minLength:"1" maxLength:"100"`
	Address     *string   `json:"address,omitempty" maxLength:"300" doc:"host or host:port of the carrier"`
	Transport   *string   `json:"transport,omitempty" enum:"udp,tcp,tls"`
	Allow       *[]string `json:"allow,omitempty" nullable:"false" maxItems:"1000" doc:"addresses (CIDR) whose calls belong to this trunk"`
	Username    *string   `json:"username,omitempty" maxLength:"200"`
	Password    *string   `json:"password,omitempty" maxLength:"500" writeOnly:"true"`
	Register    *bool     `json:"register,omitempty"`
	Codecs      *[]string `json:"codecs,omitempty" nullable:"false" maxItems:"10"`
	SRTP        *string   `json:"srtp,omitempty" enum:"off,sdes"`
	MaxChannels *int      `json:"maxChannels,omitempty" minimum:"0" maximum:"100000"`
	Priority    *int      `json:"priority,omitempty" minimum:"0" maximum:"1000" doc:"order of failover: lower first"`
	Country     *string   `json:"country,omitempty" maxLength:"2"`
	TestNumber  *string   `json:"testNumber,omitempty" maxLength:"40"`
}

// User is a person who may sign in.
type User struct {
	Username           string    `json:"username" minLength:"1" maxLength:"64"`
	FullName           *string   `json:"fullName,omitempty" maxLength:"200"`
	Extension          *string   `json:"extension,omitempty" maxLength:"12"`
	Email              *string   `json:"email,omitempty" maxLength:"200"`
	Mobile             *string   `json:"mobile,omitempty" maxLength:"200"`
	Language           *string   `json:"language,omitempty" enum:"en,es,pt,it"`
	Roles              *[]string `json:"roles,omitempty" nullable:"false" maxItems:"10"`
	Permissions        *[]string `json:"permissions,omitempty" nullable:"false" maxItems:"50"`
	State              *string   `json:"state,omitempty" enum:"active,inactive,blocked"`
	Password           *string   `json:"password,omitempty" maxLength:"512" writeOnly:"true"`
	MustChangePassword *bool     `json:"mustChangePassword,omitempty"`
	Devices            *[]Device `json:"devices,omitempty" nullable:"false" maxItems:"20"`
}

// Device is a SIP phone of a user; its digest user is EXTENSION-NAME.
type Device struct {
	Name   string  `json:"name" minLength:"1" maxLength:"32"`
	Secret *string `json:"secret,omitempty" maxLength:"512" writeOnly:"true"`
}

// Campaign is a queue with its settings, or an outbound campaign.
type Campaign struct {
	Name                string    `json:"name" minLength:"1" maxLength:"100"`
	Channel             *string   `json:"channel,omitempty" enum:"voice"`
	Direction           *string   `json:"direction,omitempty" enum:"inbound,outbound"`
	DID                 *[]string `json:"did,omitempty" nullable:"false" maxItems:"1000"`
	Strategy            *string   `json:"strategy,omitempty" enum:"ringall,leastrecent,fewestcalls,random,rrmemory,linear,wrandom"`
	Weight              *int      `json:"weight,omitempty" minimum:"-1000" maximum:"1000"`
	RingSeconds         *int      `json:"ringSeconds,omitempty" minimum:"1" maximum:"600"`
	RetrySeconds        *int      `json:"retrySeconds,omitempty" minimum:"0" maximum:"3600"`
	WrapUpSeconds       *int      `json:"wrapUpSeconds,omitempty" minimum:"0" maximum:"86400"`
	ServiceLevelSeconds *int      `json:"serviceLevelSeconds,omitempty" minimum:"0" maximum:"86400"`
	MaxWaitSeconds      *int      `json:"maxWaitSeconds,omitempty" minimum:"0" maximum:"86400"`
	MaxLen              *int      `json:"maxLen,omitempty" minimum:"0" maximum:"100000"`
	JoinEmpty           *bool     `json:"joinEmpty,omitempty"`
	LeaveWhenEmpty      *bool     `json:"leaveWhenEmpty,omitempty"`
	NoAnswerPause       *int      `json:"noAnswerPause,omitempty" minimum:"0" maximum:"1000"`
	AutoAnswer          *bool     `json:"autoAnswer,omitempty"`
	Record              *bool     `json:"record,omitempty"`
	RingInUse           *bool     `json:"ringInUse,omitempty"`
	Schedule            *[]string `json:"schedule,omitempty" nullable:"false" maxItems:"1000"`
	Timezone            *string   `json:"timezone,omitempty" maxLength:"64"`
	Language            *string   `json:"language,omitempty" maxLength:"5"`
	Breaks              *[]string `json:"breaks,omitempty" nullable:"false" maxItems:"1000"`
	Form                *string   `json:"form,omitempty" maxLength:"500"`
	Trunk               *string   `json:"trunk,omitempty" maxLength:"100"`
	CallerID            *[]string `json:"callerId,omitempty" nullable:"false" maxItems:"10000"`
	Welcome             *string   `json:"welcome,omitempty" maxLength:"200"`
	MusicOnHold         *string   `json:"musicOnHold,omitempty" maxLength:"200"`
	OutOfHours          *string   `json:"outOfHours,omitempty" maxLength:"200"`
	Members             *[]Member `json:"members,omitempty" nullable:"false" maxItems:"10000"`
}

// Member is an agent's place in a campaign.
type Member struct {
	User    string `json:"user" minLength:"1" maxLength:"64"`
	Penalty int    `json:"penalty,omitempty" minimum:"0" maximum:"1000"`
	Paused  bool   `json:"paused,omitempty"`
}

// Disposition is one outcome of a campaign, up to three levels.
type Disposition struct {
	Campaign string  `json:"campaign" minLength:"1" maxLength:"100"`
	L1       string  `json:"l1" minLength:"1" maxLength:"200"`
	L2       string  `json:"l2,omitempty" maxLength:"200"`
	L3       string  `json:"l3,omitempty" maxLength:"200"`
	Action   *string `json:"action,omitempty" enum:",RESPOOL,RESPOOLALTERNATIVE,BLACKLIST,SCHEDULE"`
}

// TrunkView is a trunk as it is read.
type TrunkView struct {
	Trunk

	Rev uint64 `json:"rev" readOnly:"true"`
}

// UserView is a user as it is read.
type UserView struct {
	User

	Rev          uint64     `json:"rev" readOnly:"true"`
	LastSignInAt *time.Time `json:"lastSignInAt,omitempty" readOnly:"true"`
}

// CampaignView is a campaign as it is read.
type CampaignView struct {
	Campaign

	Rev uint64 `json:"rev" readOnly:"true"`
}

// Change is one line of a Diff.
type Change struct {
	// Op is add, change or delete.
	Op string `json:"op" enum:"add,change,delete"`
	// Kind is trunk, user, campaign or disposition.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Fields are what differs; values of secrets are left out.
	Fields []FieldChange `json:"fields,omitempty"`
}

// FieldChange is one field that differs.
type FieldChange struct {
	Field string `json:"field"`
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
}

// Diff is the answer to an apply.
type Diff struct {
	Changes []Change `json:"changes"`
	DryRun  bool     `json:"dryRun"`
	// Warnings are settings that work but should be thought over.
	Warnings []string `json:"warnings,omitempty"`
}
