# bash completion for vdfs. The program itself tells what may follow.

_vdfs() {
    local cur=${COMP_WORDS[COMP_CWORD]} kind= line file
    local -a files=()
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
        else
            COMPREPLY+=("$(printf %q "${line%%$'\t'*}")")
        fi
    done < <("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    [[ $cur != "=" ]] || cur=
    [[ $cur != *=* ]] || cur=${cur#*=}
    cur=${cur//\\/}
    case $kind in
    files) mapfile -t files < <(compgen -f -- "$cur") ;;
    dirs) mapfile -t files < <(compgen -d -- "$cur") ;;
    images*)
        local -a endings=(${kind#images})
        local IFS='|'
        while IFS= read -r file; do
            if [[ -d $file || ${file,,} =~ \.(${endings[*]})$ ]]; then
                files+=("$file")
            fi
        done < <(compgen -f -- "$cur")
        ;;
    esac
    if ((${#files[@]})); then
        compopt -o filenames 2>/dev/null
        COMPREPLY+=("${files[@]}")
    elif ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _vdfs vdfs
