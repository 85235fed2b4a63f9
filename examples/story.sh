# For the scripts beside this one: how they tell their story. They define `broken`, which says what is not as promised, and ends.

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' green='' red='' plain=''; fi

number=0
step() { number=$((number + 1)); printf '\n%s%d. %s%s\n' "$bold" "$number" "$*" "$plain"; }

# wait_for SECONDS WHAT COMMAND...: polls for an event.
wait_for() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || broken "waited in vain for $what"
    sleep 0.05
  done
}
