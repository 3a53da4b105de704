// Package campaign owns campaigns: their settings, schedules, members and
// dispositions, and the numbers by which calls reach or leave them.
package campaign
