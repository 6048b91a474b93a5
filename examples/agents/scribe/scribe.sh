#!/bin/sh
# Scribe: an agent that a message runs. The text of the message arrives on standard input, and DorkOS
# acknowledges the message when this program ends well. DORKOS_TOKEN and DORKOS_URL are set, so the
# `dorkos` command speaks as this agent. DORKOS_REPLY_TO is where the sender wants the answer.
set -eu

text=$(cat)
echo "heard: $text"

if [ -n "${DORKOS_REPLY_TO:-}" ]; then
    dorkos relay send "$DORKOS_REPLY_TO" "Noted: $text"
fi
